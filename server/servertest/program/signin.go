package program

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

// Tokens are what a sign-in is answered with.
type Tokens struct {
	Token        string `json:"token"`
	SessionID    string `json:"sessionId"`
	RefreshToken string `json:"refreshToken"`
}

// Door calls one of the addresses below /auth/, such as "login". The answer is decoded
// into what into points to; anything but a 2xx is a *Error.
func (c *Client) Door(ctx context.Context, name string, in Input, into any) (head http.Header, err error) {
	body, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL+"/auth/"+name, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 != 2 {
		var refusal struct{ Code, Error string }
		_ = json.Unmarshal(b, &refusal)
		e := &Error{Message: refusal.Error}
		e.Extensions.Code = refusal.Code
		return resp.Header, e
	}
	if into == nil || len(b) == 0 {
		return resp.Header, nil
	}
	return resp.Header, json.Unmarshal(b, into)
}

// SignIn makes a user of the address choose a password by a new link, and signs in.
func (c *Client) SignIn(ctx context.Context, user, email, password string) (*Tokens, error) {
	var made struct {
		CreateUserLink struct{ Link struct{ URL string } }
	}
	if err := c.Do(ctx, `mutation ($id: ID!) { createUserLink(input: {id: $id}) { link { url } } }`, Input{"id": user}, &made); err != nil {
		return nil, fmt.Errorf("make a link: %w", err)
	}
	if _, err := c.Door(ctx, "link", Input{"link": made.CreateUserLink.Link.URL, "password": password}, nil); err != nil {
		return nil, fmt.Errorf("use the link: %w", err)
	}
	t := &Tokens{}
	if _, err := c.Door(ctx, "login", Input{"email": email, "password": password, "body": true}, t); err != nil {
		return nil, fmt.Errorf("sign in: %w", err)
	}
	return t, nil
}

// As is the same hub in the eyes of whoever has the credential.
func (c *Client) As(credential string) *Client {
	return &Client{URL: c.URL, Key: credential, HTTP: c.HTTP}
}
