package server_test

import "github.com/hookyard/hookyard/server/servertest/program"

// This file is what the access matrix is made of; matrix_test.go runs it. Whoever adds
//   - a mutation, a query that is no list, or a subscription: adds a line to operations;
//   - a type with an ID of its own: adds a line to nouns, with how a row of it is made;
//   - a field: adds it to testdata/fields.txt, after a thought about who may see it;
//
// and runs
//
//	go test ./server -run TestAccessMatrix -update
//
// and reads what has changed in docs/access-matrix.md.

// The places where a row can be.
const (
	inOrg   = "organization" // the organization's own level
	inA     = "A"            // the asset group A
	inB     = "B"            // the asset group B
	inOther = "elsewhere"    // another organization
	nowhere = "nowhere"      // an ID that nothing has
)

// noun is something that has rows. The first noun of a type is the one that node, the
// lists and the edges are asked for.
type noun struct {
	name   string // as operations call it: <name>
	typ    string // in GraphQL
	places []string
	hidden string // the permission without which nobody sees it, whatever the place ("… of all": and access to all groups); "" none
	make   func(w *matrix, place string) (id string)
}

func levelled() []string { return []string{inOrg, inA, inB, inOther} }
func grouped() []string  { return []string{inA, inB, inOther} }
func whole() []string    { return []string{inOrg, inOther} }

// nouns are made in this order.
func nouns() []noun {
	made := func(mutation, input string) func(*matrix, string) string {
		return func(w *matrix, place string) string { return w.create(place, mutation, input) }
	}
	application := made("createApplication", `{name: <new>, assetGroupId: <assetGroup>}`)
	endpoint := made("createEndpoint", `{name: <new>, connector: "webhook", url: <sink>, assetGroupId: <level>, sharedGroupIds: <levels>}`)
	global := made("createWebhook", `{name: <new>, assetGroupId: <level>, endpointId: <endpoint>, global: true, format: "cloudevents", handshake: false}`)
	scoped := func(w *matrix, place string) string {
		scopes := `applicationIds: [<application>], sourceIds: [<source>]`
		if place == inOrg {
			scopes = `applicationIds: [<application@A>], scopeGroupIds: [<assetGroup@B>], sourceIds: [<source>, <source@A>]`
		}
		return w.create(place, "createWebhook", `{name: <new>, assetGroupId: <level>, endpointId: <endpoint>, format: "cloudevents", handshake: false, `+scopes+`}`)
	}
	presence := made("createPresence", `{name: <new>, assetGroupId: <level>, sharedGroupIds: <levels>}`)
	source := made("createSource", `{name: <new>, kind: "cloudevents", assetGroupId: <level>}`)
	project := made("createProject", `{name: <new>, applicationId: <application>, targetKind: WEB, targetUrl: "https://app.example.com", scanner: "simulated", settings: {seconds: 0, checks: []}}`)
	role := func(w *matrix, place string) string { // its name is no secret in the organization
		return firstID(w.must(place, w.mutation("createRole", w.fill(`{name: <new>, permissions: [RUN_SCANS]}`, place))))
	}
	return []noun{
		{"organization", "Organization", whole(), "", func(w *matrix, place string) string { return w.organization(place) }},
		{"assetGroup", "AssetGroup", grouped(), "", made("createAssetGroup", `{name: <new>}`)},
		{"application", "Application", grouped(), "", application},
		{"looseApplication", "Application", grouped(), "", application},
		{"endpoint", "Endpoint", levelled(), "", endpoint},
		{"looseEndpoint", "Endpoint", levelled(), "", endpoint},
		{"presence", "Presence", levelled(), "", presence},
		{"loosePresence", "Presence", levelled(), "", presence},
		{"connector", "EnabledConnector", whole(), "everybody", func(w *matrix, place string) string {
			return firstID(w.must(place, w.mutation("enableConnector", `{connector: "faulty"}`)))
		}},
		{"pluginEndpoint", "Endpoint", levelled(), "", made("createEndpoint", `{name: <new>, connector: "faulty", url: <sink>, assetGroupId: <level>}`)},
		{"source", "Source", levelled(), "", source},
		{"looseSource", "Source", levelled(), "", source},
		{"polledSource", "Source", levelled(), "", made("createSource", `{name: <new>, kind: "faulty/numbers", assetGroupId: <level>}`)},
		{"project", "Project", grouped(), "", project},
		{"looseProject", "Project", grouped(), "", project},
		{"trigger", "Trigger", grouped(), "", made("generateTrigger", `{name: <new>, projectId: <project>}`)},
		{"looseTrigger", "Trigger", grouped(), "", made("generateTrigger", `{name: <new>, projectId: <project>}`)},
		{"run", "Run", grouped(), "", func(w *matrix, place string) string { return w.ran(place) }},
		{"webhook", "Webhook", levelled(), "", scoped},
		{"globalWebhook", "Webhook", levelled(), "", global},
		{"looseWebhook", "Webhook", levelled(), "", made("createWebhook", `{name: <new>, assetGroupId: <level>, endpointId: <endpoint>}`)},
		{"heldWebhook", "Webhook", levelled(), "", func(w *matrix, place string) string {
			id := global(w, place)
			w.must(place, `mutation { pauseWebhook(input: {id: "`+id+`"}) { webhook { id } } }`)
			return id
		}},
		{"user", "User", whole(), "MANAGE_ACCESS", made("createUser", `{email: <newEmail>, name: <new>, role: TESTER}`)},
		{"session", "Session", whole(), "MANAGE_ACCESS", func(w *matrix, place string) string { return w.signIn(place) }},
		{"looseSession", "Session", whole(), "MANAGE_ACCESS", func(w *matrix, place string) string { return w.signIn(place) }},
		{"looseUser", "User", whole(), "MANAGE_ACCESS", made("createUser", `{email: <newEmail>, name: <new>, role: TESTER}`)},
		{"role", "CustomRole", whole(), "everybody", role},
		{"looseRole", "CustomRole", whole(), "everybody", role},
		{"apiKey", "APIKey", whole(), "MANAGE_ACCESS", made("createAPIKey", `{name: <new>, role: TESTER}`)},
		{"looseAPIKey", "APIKey", whole(), "MANAGE_ACCESS", made("createAPIKey", `{name: <new>, role: TESTER}`)},
		{"identityProvider", "IdentityProvider", whole(), "MANAGE_ACCESS of all", made("createIdentityProvider", provider())},
		{"looseProvider", "IdentityProvider", whole(), "MANAGE_ACCESS of all", made("createIdentityProvider", provider())},
		{"trustedIssuer", "TrustedIssuer", whole(), "MANAGE_ACCESS of all", made("createTrustedIssuer", issuer())},
		{"looseIssuer", "TrustedIssuer", whole(), "MANAGE_ACCESS of all", made("createTrustedIssuer", issuer())},
		{"auditEntry", "AuditEntry", levelled(), "READ_AUDIT", func(w *matrix, place string) string {
			return firstID(w.must(place, `{ auditLog(filter: {objectIds: ["`+w.row("endpoint", place)+`"]}) { edges { node { id } } } }`))
		}},

		{"event", "Event", levelled(), "", func(w *matrix, place string) string { return w.history(place).event }},
		{"receipt", "Receipt", levelled(), "", func(w *matrix, place string) string { return w.history(place).receipt }},
		{"scan", "Scan", levelled(), "", func(w *matrix, place string) string { return w.history(place).subjects["scan"] }},
		{"finding", "Finding", levelled(), "", func(w *matrix, place string) string { return w.history(place).subjects["finding"] }},
		{"ticket", "Ticket", levelled(), "", func(w *matrix, place string) string { return w.history(place).subjects["ticket"] }},
		{"report", "Report", levelled(), "", func(w *matrix, place string) string { return w.history(place).subjects["report"] }},
		{"delivery", "Delivery", levelled(), "", func(w *matrix, place string) string { return w.history(place).delivery }},
		{"attempt", "Attempt", levelled(), "", func(w *matrix, place string) string { return w.history(place).attempt }},
		{"openDelivery", "Delivery", levelled(), "", func(w *matrix, place string) string { return w.open(place) }},
	}
}

func provider() string {
	return `{name: <new>, issuer: "https://id.example.com", clientId: <new>, clientSecret: "secret", mapping: []}`
}

func issuer() string {
	return `{name: <new>, issuer: <newURL>, audience: "hub", keysUrl: "https://id.example.com/keys", actsAs: ROLES, mapping: []}`
}

// operation is one way to ask for something. In its text <noun> is the ID of the noun's
// row at the place in question, <level> the place's asset group or null, <new> a new name.
type operation struct {
	field string // "Mutation.updateWebhook"
	on    string // the noun whose places are gone through; "level": every level; "": once
	text  string // the input of a mutation, the whole field of anything else
	renew bool   // what was done is not undone by doing it again: the row is made anew after it
	undo  string // the mutation that deletes what was created
}

func operations() []operation {
	return []operation{
		{"Query.node", "webhook", `node(id: <webhook>) { id }`, false, ""},
		{"Query.nodes", "webhook", `nodes(ids: [<webhook>]) { id }`, false, ""},
		{"Query.viewer", "", `viewer { id name role permissions allGroups groupIds organizationId }`, false, ""},
		{"Query.organization", "", `organization { id name }`, false, ""},
		{"Query.held", "", `held`, false, ""},
		{"Query.predefinedRoles", "", `predefinedRoles { role permissions }`, false, ""},
		{"Query.permissions", "", `permissions { permission fields }`, false, ""},
		{"Query.endpointChoices", "level", `endpointChoices(assetGroupId: <level>) { id name }`, false, ""},
		{"Query.presenceChoices", "level", `presenceChoices(assetGroupId: <level>) { id name }`, false, ""},
		{"Query.connectors", "", `connectors { name }`, false, ""},
		{"Query.connectorCatalogue", "", `connectorCatalogue { name problem versions { version nodes } processes { state } }`, false, ""},
		{"Query.sourceKinds", "", `sourceKinds`, false, ""},
		{"Query.sourceSettings", "", `sourceSettings(kind: "appscan")`, false, ""},
		{"Query.formats", "", `formats { name eventTypes }`, false, ""},
		{"Query.eventTypes", "", `eventTypes`, false, ""},
		{"Query.explain", "webhook", `explain(webhookId: <webhook>, eventId: <event>) { matches reasons { text } deliveries { id } }`, false, ""},
		{"Query.explain of an event in A", "webhook", `explain(webhookId: <webhook>, eventId: <event@A>) { matches reasons { text } deliveries { id } }`, false, ""},

		{"Mutation.updateOrganization", "", `{}`, false, ""},

		{"Mutation.createAssetGroup", "", `{name: <new>}`, false, "deleteAssetGroup"},
		{"Mutation.updateAssetGroup", "assetGroup", `{id: <assetGroup>, description: "x"}`, false, ""},
		{"Mutation.deleteAssetGroup", "assetGroup", `{id: <assetGroup>}`, false, ""}, // it holds something

		{"Mutation.createApplication", "assetGroup", `{name: <new>, assetGroupId: <assetGroup>}`, false, "deleteApplication"},
		{"Mutation.updateApplication", "application", `{id: <application>, description: "x"}`, false, ""},
		{"Mutation.updateApplication into A", "looseApplication", `{id: <looseApplication>, assetGroupId: <assetGroup@A>}`, true, ""},
		{"Mutation.deleteApplication", "looseApplication", `{id: <looseApplication>}`, true, ""},

		{"Mutation.createUser", "", `{email: <newEmail>, role: TESTER}`, false, ""},
		{"Mutation.createUser as an Administrator", "", `{email: <newEmail>, role: ADMINISTRATOR}`, false, ""},
		{"Mutation.createUser with a group", "level", `{email: <newEmail>, role: TESTER, groupIds: <levels>}`, false, ""},
		{"Mutation.inviteUser", "", `{user: {email: <newEmail>, role: TESTER}}`, false, ""},
		{"Mutation.inviteUser as an Administrator", "", `{user: {email: <newEmail>, role: ADMINISTRATOR}}`, false, ""},
		{"Mutation.createUserLink", "user", `{id: <user>}`, false, ""},
		{"Mutation.removeUserSecondFactor", "user", `{id: <user>}`, false, ""},
		{"Mutation.endSession", "looseSession", `{id: <looseSession>}`, true, ""},
		{"Mutation.endUserSessions", "user", `{userId: <user>}`, false, ""},
		{"Mutation.changePassword", "", `{currentPassword: "x", newPassword: "a horse and a battery"}`, false, ""},
		{"Mutation.beginSecondFactor", "", `{password: "x"}`, false, ""},
		{"Mutation.confirmSecondFactor", "", `{code: "000000"}`, false, ""},
		{"Mutation.removeSecondFactor", "", `{password: "x"}`, false, ""},
		{"Mutation.updateUser", "user", `{id: <user>, name: "x"}`, false, ""},
		{"Mutation.updateUser to an Administrator", "looseUser", `{id: <looseUser>, role: ADMINISTRATOR}`, true, ""},
		{"Mutation.disableUser", "looseUser", `{id: <looseUser>}`, true, ""},
		{"Mutation.enableUser", "user", `{id: <user>}`, false, ""},
		{"Mutation.transferOwnership", "user", `{fromId: <user>, stop: true}`, false, ""},
		{"Mutation.deleteUser", "looseUser", `{id: <looseUser>}`, true, ""},
		{"Mutation.createRole", "", `{name: <new>, permissions: [RUN_SCANS]}`, false, "deleteRole"},
		{"Mutation.updateRole", "role", `{id: <role>, permissions: [RUN_SCANS]}`, false, ""},
		{"Mutation.deleteRole", "looseRole", `{id: <looseRole>}`, true, ""},
		{"Mutation.updateAPIKey", "apiKey", `{id: <apiKey>, name: "x"}`, false, ""},
		{"Mutation.createAPIKey", "", `{name: <new>, role: TESTER}`, false, "deleteAPIKey"},
		{"Mutation.deleteAPIKey", "looseAPIKey", `{id: <looseAPIKey>}`, true, ""},

		{"Mutation.createIdentityProvider", "", provider(), false, "deleteIdentityProvider"},
		{"Mutation.updateIdentityProvider", "identityProvider", `{id: <identityProvider>, enabled: true}`, false, ""},
		{"Mutation.testIdentityProvider", "identityProvider", `{id: <identityProvider>}`, false, ""},
		{"Mutation.deleteIdentityProvider", "looseProvider", `{id: <looseProvider>}`, true, ""},
		{"Mutation.unlinkUser", "user", `{id: <user>}`, false, ""},
		{"Mutation.createTrustedIssuer", "", issuer(), false, "deleteTrustedIssuer"},
		{"Mutation.updateTrustedIssuer", "trustedIssuer", `{id: <trustedIssuer>, enabled: true}`, false, ""},
		{"Mutation.deleteTrustedIssuer", "looseIssuer", `{id: <looseIssuer>}`, true, ""},

		{"Mutation.createSource", "level", `{name: <new>, kind: "cloudevents", assetGroupId: <level>}`, false, "deleteSource"},
		{"Mutation.updateSource", "source", `{id: <source>, timeZone: "Europe/Berlin"}`, false, ""},
		{"Mutation.rotateSourceToken", "source", `{id: <source>}`, false, ""},
		{"Mutation.rotateSourceSecret", "source", `{id: <source>}`, false, ""},
		{"Mutation.enableSource", "source", `{id: <source>}`, false, ""},
		{"Mutation.pollSource", "polledSource", `{id: <polledSource>}`, false, ""},
		{"Mutation.disableSource", "looseSource", `{id: <looseSource>}`, true, ""},
		{"Mutation.deleteSource", "looseSource", `{id: <looseSource>}`, true, ""},
		{"Mutation.reprocessReceipts", "receipt", `{filter: {ids: [<receipt>]}, dryRun: true}`, false, ""},

		{"Query.scanners", "", `scanners { name }`, false, ""},
		{"Query.triggerKinds", "", `triggerKinds`, false, ""},
		{"Mutation.createProject", "application", `{name: <new>, applicationId: <application>, targetKind: API, targetUrl: "https://app.example.com", scanner: "simulated"}`, false, "deleteProject"},
		{"Mutation.updateProject", "project", `{id: <project>, origins: ["https://api.example.com"]}`, false, ""},
		{"Mutation.forgetProjectSetup", "project", `{id: <project>}`, false, ""},
		{"Mutation.deleteProject", "looseProject", `{id: <looseProject>}`, true, ""},
		{"Mutation.generateTrigger", "project", `{name: <new>, projectId: <project>}`, false, "deleteTrigger"},
		{"Mutation.regenerateTrigger", "trigger", `{id: <trigger>}`, false, ""},
		{"Mutation.updateTrigger", "trigger", `{id: <trigger>, name: "x"}`, false, ""},
		{"Mutation.enableTrigger", "trigger", `{id: <trigger>}`, false, ""},
		{"Mutation.disableTrigger", "looseTrigger", `{id: <looseTrigger>}`, true, ""},
		{"Mutation.deleteTrigger", "looseTrigger", `{id: <looseTrigger>}`, true, ""},
		{"Mutation.startScan", "looseProject", `{projectId: <looseProject>}`, true, ""},
		{"Mutation.stopScan", "run", `{id: <run>}`, false, ""}, // it has ended

		{"Mutation.createEndpoint", "level", `{name: <new>, connector: "webhook", url: <sink>, assetGroupId: <level>}`, false, "deleteEndpoint"},
		{"Mutation.updateEndpoint", "endpoint", `{id: <endpoint>, url: <sink>}`, false, ""},
		{"Mutation.testEndpoint", "endpoint", `{id: <endpoint>}`, false, ""},
		{"Mutation.deleteEndpoint", "looseEndpoint", `{id: <looseEndpoint>}`, true, ""},

		{"Mutation.updateEndpoint through a Presence", "looseEndpoint", `{id: <looseEndpoint>, presenceId: <presence>}`, true, ""},

		{"Mutation.createPresence", "level", `{name: <new>, assetGroupId: <level>}`, false, "deletePresence"},
		{"Mutation.updatePresence", "presence", `{id: <presence>, description: "x"}`, false, ""},
		{"Mutation.rotatePresenceKey", "presence", `{id: <presence>}`, false, ""},
		{"Mutation.deletePresence", "loosePresence", `{id: <loosePresence>}`, true, ""},
		{"Mutation.reportPresenceWork", "", `{results: []}`, false, ""}, // for agents, who ask nothing else
		{"Subscription.presenceWork", "", `presenceWork(input: {name: "x", version: "1", publicKey: ""}) { checks { id } }`, false, ""},
		{"Mutation.enableConnector", "", `{connector: "faulty", version: "1.0.0"}`, false, ""},
		{"Mutation.disableConnector", "connector", `{id: <connector>}`, true, ""},
		{"Mutation.switchConnector", "connector", `{id: <connector>, version: "1.0.0"}`, false, ""},
		{"Mutation.releaseConnector", "connector", `{id: <connector>}`, false, ""},
		{"Mutation.pinConnector", "pluginEndpoint", `{endpointId: <pluginEndpoint>, version: "1.0.0"}`, false, ""},

		{"Mutation.createWebhook", "level", `{name: <new>, assetGroupId: <level>, endpointId: <endpoint>}`, false, "deleteWebhook"},
		{"Mutation.updateWebhook", "webhook", `{id: <webhook>, description: "x"}`, false, ""},
		{"Mutation.updateWebhook with a scope in A", "looseWebhook", `{id: <looseWebhook>, applicationIds: [<application@A>]}`, true, ""},
		{"Mutation.pauseWebhook", "looseWebhook", `{id: <looseWebhook>}`, true, ""},
		{"Mutation.resumeWebhook", "webhook", `{id: <webhook>}`, false, ""},
		{"Mutation.disableWebhook", "looseWebhook", `{id: <looseWebhook>}`, true, ""},
		{"Mutation.enableWebhook", "webhook", `{id: <webhook>}`, false, ""},
		{"Mutation.testWebhook", "webhook", `{id: <webhook>}`, false, ""},
		{"Mutation.verifyWebhook", "webhook", `{id: <webhook>}`, false, ""},
		{"Mutation.rotateWebhookSecret", "webhook", `{id: <webhook>}`, false, ""},
		{"Mutation.deleteWebhook", "looseWebhook", `{id: <looseWebhook>}`, true, ""},

		{"Mutation.sendEvent", "application", `{type: "scan.started", applicationId: <application>, scan: {key: <new>, name: "x"}}`, false, ""},
		{"Mutation.sendEvent for no application", "", `{type: "scan.started", scan: {key: <new>, name: "x"}}`, false, ""},
		{"Mutation.sendEvents", "application", `{events: [{type: "scan.started", applicationId: <application>, scan: {key: <new>, name: "x"}}]}`, false, ""},
		{"Mutation.redeliver", "delivery", `{deliveryId: <delivery>}`, false, ""},
		{"Mutation.redeliverDeliveries", "delivery", `{filter: {ids: [<delivery>], states: [SUCCEEDED]}}`, false, ""},
		{"Mutation.cancelDeliveries", "openDelivery", `{filter: {ids: [<openDelivery>]}}`, true, ""},
		{"Mutation.eraseEventPayload", "event", `{eventId: <event>, reason: ""}`, false, ""}, // a reason is needed
		{"Mutation.erasePerson", "", `{email: "nobody@example.com", reason: "the matrix", dryRun: true}`, false, ""},
		{"Mutation.releaseHold", "", ``, false, ""},
	}
}

// guarded are fields that are empty for some of those who see the object.
func guarded() []string {
	return []string{"Event.document", "Receipt.body", "Attempt.requestBody", "Attempt.responseBody"}
}

// asked is somebody who asks everything.
type asked struct {
	name   string
	key    program.Input // of an API key; nil for nobody and for the other organization's Administrator
	groups []string
	custom []string // permissions of a custom role, made for it
}

// everybody are the viewers of the matrix.
func everybody() []asked {
	out := []asked{{name: "nobody"}, {name: "Administrator elsewhere"}, {name: "Administrator", key: program.Input{"role": "ADMINISTRATOR"}}}
	access := []struct {
		name   string
		all    bool
		groups []string
	}{{"of no group", false, nil}, {"of A", false, []string{inA}}, {"of B", false, []string{inB}}, {"of all", true, nil}}
	for _, role := range []struct{ name, role string }{{"Manager", "MANAGER"}, {"Application Manager", "APPLICATION_MANAGER"}, {"Tester", "TESTER"}, {"Report Viewer", "REPORT_VIEWER"}} {
		for _, a := range access {
			out = append(out, asked{name: role.name + " " + a.name, key: program.Input{"role": role.role, "allGroups": a.all}, groups: a.groups})
		}
	}
	for _, role := range []struct {
		name        string
		permissions []string
	}{
		{"Custom role (webhooks)", []string{"CREATE_MODIFY_WEBHOOKS"}},
		{"Custom role (access, audit)", []string{"MANAGE_ACCESS", "READ_AUDIT"}},
		{"Custom role (connectors)", []string{"MANAGE_CONNECTORS"}},
		{"Custom role (nothing)", []string{}},
	} {
		for _, a := range []int{1, 3} {
			out = append(out, asked{name: role.name + " " + access[a].name, key: program.Input{"role": "CUSTOM", "allGroups": access[a].all}, groups: access[a].groups, custom: role.permissions})
		}
	}
	return out
}
