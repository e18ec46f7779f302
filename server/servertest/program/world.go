package program

import "context"

// Input is the input object of a mutation, by the names of the API.
type Input map[string]any

// CreateAssetGroup returns the ID of a new asset group.
func (c *Client) CreateAssetGroup(ctx context.Context, name string) (id string, err error) {
	var got struct {
		R struct{ AssetGroup struct{ ID string } }
	}
	err = c.Do(ctx, `mutation ($in: CreateAssetGroupInput!) { r: createAssetGroup(input: $in) { assetGroup { id } } }`,
		Input{"in": Input{"name": name}}, &got)
	return got.R.AssetGroup.ID, err
}

// CreateApplication returns the ID of a new application in the asset group.
func (c *Client) CreateApplication(ctx context.Context, name, group string) (id string, err error) {
	var got struct {
		R struct{ Application struct{ ID string } }
	}
	err = c.Do(ctx, `mutation ($in: CreateApplicationInput!) { r: createApplication(input: $in) { application { id } } }`,
		Input{"in": Input{"name": name, "assetGroupId": group}}, &got)
	return got.R.Application.ID, err
}

// CreateSource returns the ID of a new source and the address to which it sends.
func (c *Client) CreateSource(ctx context.Context, in Input) (id, address string, err error) {
	var got struct {
		R struct {
			Source  struct{ ID string }
			Address string
		}
	}
	err = c.Do(ctx, `mutation ($in: CreateSourceInput!) { r: createSource(input: $in) { source { id } address } }`, Input{"in": in}, &got)
	return got.R.Source.ID, got.R.Address, err
}

// CreateEndpoint returns the ID of a new endpoint.
func (c *Client) CreateEndpoint(ctx context.Context, in Input) (id string, err error) {
	var got struct {
		R struct{ Endpoint struct{ ID string } }
	}
	err = c.Do(ctx, `mutation ($in: CreateEndpointInput!) { r: createEndpoint(input: $in) { endpoint { id } } }`, Input{"in": in}, &got)
	return got.R.Endpoint.ID, err
}

// CreateWebhook returns the ID of a new webhook and its signing secret ("whsec_…").
func (c *Client) CreateWebhook(ctx context.Context, in Input) (id, secret string, err error) {
	var got struct {
		R struct {
			Webhook       struct{ ID string }
			SigningSecret string
		}
	}
	err = c.Do(ctx, `mutation ($in: CreateWebhookInput!) { r: createWebhook(input: $in) { webhook { id } signingSecret } }`, Input{"in": in}, &got)
	return got.R.Webhook.ID, got.R.SigningSecret, err
}

// Entry is one line of the delivery log.
type Entry struct {
	ID, DeliveryID, EventID, WebhookID, EndpointID string
	EventType, State, Error                        string
	Number, HTTPStatus                             int
}

// Batch is what the delivery log sends at a time.
type Batch struct {
	Entries   []Entry
	Cursor    string
	Heartbeat bool
}

// DeliveryLog subscribes to the delivery log from now on, or after a cursor. filter may
// be nil. When it returns, the log is established: the hub's first, empty batch has come.
func (c *Client) DeliveryLog(ctx context.Context, filter Input, after string) (*Subscription, error) {
	vars := Input{"f": nil, "a": nil}
	if filter != nil {
		vars["f"] = filter
	}
	if after != "" {
		vars["a"] = after
	}
	s, err := c.Subscribe(ctx, `subscription ($f: DeliveryLogFilter, $a: String) { deliveryLog(filter: $f, after: $a) { cursor heartbeat
		entries { id deliveryId eventId webhookId endpointId eventType state error number httpStatus } } }`, vars)
	if err != nil || after != "" {
		return s, err
	}
	if _, err := s.NextRaw(ctx); err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

// NextBatch waits for the next batch of a DeliveryLog.
func (s *Subscription) NextBatch(ctx context.Context) (Batch, error) {
	var got struct{ DeliveryLog Batch }
	err := s.Next(ctx, &got)
	return got.DeliveryLog, err
}
