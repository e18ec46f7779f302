package graph

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/99designs/gqlgen/graphql/handler"
	"github.com/99designs/gqlgen/graphql/handler/lru"
	"github.com/99designs/gqlgen/graphql/handler/transport"
	"github.com/jonboulle/clockwork"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/hookyard/hookyard/ent/viewer"
	graphgen "github.com/hookyard/hookyard/graph/gen"
	"github.com/hookyard/hookyard/graph/scalar"
)

// Protocol is the only websocket protocol that is spoken.
const Protocol = "graphql-transport-ws"

// Close codes of a websocket beside those of the protocol.
const (
	closeExpired = 4401 // the credential has ended, or what it may do has changed
	closeRefused = 4403 // the credential is missing or wrong
)

// What most messages need, in bytes, from clients and to them; the server's buffers have 4 KiB each.
const (
	readBuffer  = 1 << 10
	writeBuffer = 2 << 10
)

// Options are how the API is served.
type Options struct {
	Auth Authenticator
	// BadCredential is what Auth returns for a credential that is missing, wrong or
	// expired; any other error means that it could not tell.
	BadCredential error
	Limits        Limits
	Rate          Throttle      // of operations, by the viewer's ID; nil: unlimited
	Strangers     Throttle      // of requests without a valid credential, by where they come from; nil: unlimited
	Introspection bool          // whether the schema can be asked for
	Origins       []string      // hosts of other web pages that may open websockets, "*.example.com"
	Ping          time.Duration // between pings on a websocket and comments in a stream: 20 s
	AgentPing     time.Duration // between pings to agents of Presences, whose deliveries wait while a link is dead: 3 s
	Recheck       time.Duration // between looks at the credential of an open stream: 30 s
	Log           *slog.Logger
	Clock         clockwork.Clock
	Live          context.Context // websockets end with it; nil: they do not end with anything
	AgentLive     context.Context // those of agents of Presences do with this; nil: with Live
}

// Throttle lets a caller do one thing more, or says when it may.
type Throttle interface {
	Take(caller string) (wait time.Duration, ok bool)
}

// Handler serves the API. POST answers once, or as a stream of server-sent events when
// that is accepted; websockets speak graphql-transport-ws, with the credential in the
// request's Authorization header or under the same name in the connection_init payload.
type Handler struct {
	opt     Options
	present presenter
	exec    *handler.Server
	buffers sync.Pool // of *bytes.Buffer, for what is written again and again

	mu       sync.Mutex
	streams  map[string]int // open ones by viewer ID
	sessions map[*session]struct{}
	looks    int // how often Recheck was called
}

// New returns the API over the services.
func New(s Services, o Options) *Handler {
	o.Limits.defaults()
	if o.Ping == 0 {
		o.Ping = 20 * time.Second
	}
	if o.AgentPing == 0 {
		o.AgentPing = 3 * time.Second
	}
	if o.Recheck == 0 {
		o.Recheck = 30 * time.Second
	}
	if o.Live == nil {
		o.Live = context.Background()
	}
	if o.AgentLive == nil {
		o.AgentLive = o.Live
	}
	h := &Handler{opt: o, present: presenter{log: o.Log, ids: s.IDs}, buffers: sync.Pool{New: func() any { return &bytes.Buffer{} }}, streams: map[string]int{}, sessions: map[*session]struct{}{}}
	r := &Resolver{s}
	exec := handler.New(graphgen.NewExecutableSchema(graphgen.Config{Resolvers: r, Directives: graphgen.DirectiveRoot{Requires: r.requires, Oneself: oneself, Agent: agentOnly}}))
	exec.AddTransport(sockets{h})
	exec.AddTransport(transport.SSE{KeepAlivePingInterval: o.Ping}) // before POST, which would take it
	exec.AddTransport(transport.POST{})
	exec.SetParserTokenLimit(o.Limits.Tokens)
	exec.SetQueryCache(documents{lru.New[*ast.QueryDocument](128)})
	exec.SetDisableSuggestion(!o.Introspection)
	exec.SetErrorPresenter(h.present.present)
	exec.SetRecoverFunc(h.present.recovered)
	exec.Use(limiter{o.Limits, o.Introspection, o.Rate})
	exec.AroundOperations(func(ctx context.Context, next graphql.OperationHandler) graphql.ResponseHandler {
		return next(r.withLoaders(ctx))
	})
	exec.AroundOperations(deadline(o.Limits.Time))
	exec.AroundOperations(h.tellEnding)
	exec.AroundOperations(h.enrolFirst)
	exec.AroundOperations(keepAgents)
	h.exec = exec
	return h
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rc := http.NewResponseController(w)
	s := &session{h: h, header: r.Header.Get("Authorization")}
	ctx := context.WithValue(r.Context(), sessionKey{}, s)
	if strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		if !offers(r, Protocol) {
			h.refuse(w, http.StatusBadRequest, &Error{Code: BadUserInput, Message: "Websockets speak the protocol " + Protocol + " here."})
			return
		}
		s.socket = true
		h.exec.ServeHTTP(&writer{ResponseWriter: w, rc: rc, limit: h.opt.Limits.Write}, r.WithContext(ctx))
		return
	}
	defer s.end()
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		h.refuse(w, http.StatusMethodNotAllowed, &Error{Code: BadUserInput, Message: "Send a POST with a JSON body: {\"query\": ..., \"variables\": ...}."})
		return
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	looks := h.looked()
	v, expires, err := h.authenticate(ctx, s.header)
	if err != nil {
		h.refuse(w, statusOf(err), err)
		return
	}
	if err := take(h.opt.Rate, v.ID); err != nil {
		h.refuse(w, statusOf(err), err)
		return
	}
	_ = rc.SetReadDeadline(time.Now().Add(h.opt.Limits.Time)) // not every writer has one
	body, err := h.read(w, r)
	if err != nil {
		h.refuse(w, statusOf(err), err)
		return
	}
	_ = rc.SetReadDeadline(time.Time{})
	r.Body = io.NopCloser(bytes.NewReader(body))
	ctx = viewer.NewContext(ctx, v)
	if strings.Contains(r.Header.Get("Accept"), "text/event-stream") {
		if err := s.begin(ctx, v, cancel, looks); err != nil {
			h.refuse(w, statusOf(err), err)
			return
		}
		s.watch(ctx, expires)
	}
	h.exec.ServeHTTP(&writer{ResponseWriter: w, rc: rc, limit: h.opt.Limits.Write}, r.WithContext(ctx))
}

// documents keeps what was parsed and checked: a thousand who watch ask the same.
type documents struct{ *lru.LRU[*ast.QueryDocument] }

// Add implements graphql.Cache. What programs ask again and again is short.
func (d documents) Add(ctx context.Context, query string, doc *ast.QueryDocument) {
	if len(query) <= 4<<10 {
		d.LRU.Add(ctx, query, doc)
	}
}

func offers(r *http.Request, protocol string) bool {
	for _, line := range r.Header.Values("Sec-WebSocket-Protocol") {
		for p := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(p), protocol) {
				return true
			}
		}
	}
	return false
}

// read reads a request's body, whole and only if it is JSON, so that the library has
// no reason to quote it in a log.
func (h *Handler) read(w http.ResponseWriter, r *http.Request) ([]byte, *Error) {
	if kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); strings.TrimSpace(strings.ToLower(kind)) != "application/json" {
		// Nor is it anything that a form on another site could send.
		return nil, &Error{Code: BadUserInput, Message: "The Content-Type must be application/json."}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, h.opt.Limits.Body))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, limited("bodySize", "The request is larger than %d bytes; send less at once.", h.opt.Limits.Body)
	case err != nil:
		return nil, &Error{Code: BadUserInput, Message: "The request could not be read to its end."}
	}
	if bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("[")) {
		return nil, limited("batch", "Send one operation at a time.")
	}
	var shape struct {
		Query         string         `json:"query"`
		OperationName string         `json:"operationName"`
		Variables     map[string]any `json:"variables"`
		Extensions    map[string]any `json:"extensions"`
	}
	if err := json.Unmarshal(body, &shape); err != nil {
		return nil, &Error{Code: BadUserInput, Message: "The request is not JSON of the form {\"query\": ..., \"variables\": ...}."}
	}
	return body, nil
}

// authenticate finds the viewer of a credential.
func (h *Handler) authenticate(ctx context.Context, header string) (*viewer.Viewer, time.Time, *Error) {
	v, expires, err := h.opt.Auth.Authenticate(ctx, header)
	switch {
	case err == nil && v != nil:
		return v, expires, nil
	case err == nil, errors.Is(err, h.opt.BadCredential):
		if err := take(h.opt.Strangers, viewer.Origin(ctx)); err != nil {
			return nil, time.Time{}, err
		}
		return nil, time.Time{}, errUnauthenticated
	}
	h.opt.Log.WarnContext(ctx, "cannot look a credential up", "error", err)
	return nil, time.Time{}, &Error{Code: Unavailable, Message: "The hub cannot look your credential up now; try again."}
}

// take takes a token for one thing more.
func take(t Throttle, caller string) *Error {
	if t == nil {
		return nil
	}
	wait, ok := t.Take(caller)
	if ok {
		return nil
	}
	e := limited("rate", "That is too much at once; wait a moment.")
	e.Retry = max(wait, time.Millisecond)
	return e
}

// apart is authenticate on a stack of its own: it goes deep into the database, and a
// goroutine that lives long would keep what its stack has grown to.
func (h *Handler) apart(ctx context.Context, header string) (v *viewer.Viewer, expires time.Time, err *Error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		v, expires, err = h.authenticate(ctx, header)
	}()
	<-done
	return v, expires, err
}

func statusOf(e *Error) int {
	switch {
	case e.Code == Unauthenticated:
		return http.StatusUnauthorized
	case e.Code == Unavailable:
		return http.StatusServiceUnavailable
	case e.Limit == "bodySize":
		return http.StatusRequestEntityTooLarge
	case e.Limit == "rate", e.Limit == "streams":
		return http.StatusTooManyRequests
	}
	return http.StatusBadRequest
}

// refuse answers a request that does not get as far as GraphQL, in its shape.
func (h *Handler) refuse(w http.ResponseWriter, status int, e *Error) {
	if e.Code == Unauthenticated {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	if e.Retry > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(e.retryAfter()))
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(graphql.Response{Errors: gqlerror.List{{Message: e.Message, Extensions: e.extensions()}}})
}

// requires implements the directive of the same name. What the input names by its ID
// has to be there for the viewer before anything is said of permissions.
func (r *Resolver) requires(ctx context.Context, _ any, next graphql.Resolver, permission viewer.Permission) (any, error) {
	v := viewer.FromContext(ctx)
	if v == nil {
		return nil, errUnauthenticated
	}
	if v.Can(permission) {
		return next(ctx)
	}
	in, _ := graphql.GetFieldContext(ctx).Field.ArgumentMap(graphql.GetOperationContext(ctx).Variables)["input"].(map[string]any)
	for _, field := range []string{"id", "deliveryId", "eventId"} {
		id, named := in[field].(string)
		if !named {
			continue
		}
		if _, err := r.node(ctx, id); err != nil && explain(err).Code == NotFound {
			return nil, notFound("input."+field, id)
		}
	}
	return nil, forbidden("You need the permission %s for this.", permission)
}

// tellEnding lets a subscription that ends by itself, or with its session, say why in a
// last answer.
func (h *Handler) tellEnding(ctx context.Context, next graphql.OperationHandler) graphql.ResponseHandler {
	s := ctx.Value(sessionKey{}).(*session)
	if over := s.revoked(); over != nil { // a question that came after on the same socket
		return graphql.OneShot(&graphql.Response{Errors: gqlerror.List{h.present.present(ctx, over)}})
	}
	if graphql.GetOperationContext(ctx).Operation.Operation != ast.Subscription {
		return next(ctx)
	}
	e := &ending{}
	answer := next(scalar.WithBatchPlan(context.WithValue(ctx, endingKey{}, e), &h.buffers, func(seq int64) string {
		return logCursor(deliveryMark, viewer.FromContext(ctx).Organization, seq)
	}))
	return func(ctx context.Context) *graphql.Response {
		resp := answer(ctx)
		err := e.take()
		if over := s.revoked(); over != nil { // what was seen before is not sent after
			resp, err = nil, nil
			if !e.told {
				e.told, err = true, over
			}
		}
		if resp != nil || err == nil {
			return resp
		}
		return &graphql.Response{Errors: gqlerror.List{h.present.present(ctx, err)}}
	}
}

// enrolFirst refuses everything but what sets a second factor up to those who have to do
// that first. Behind it stand the rules of the stored data: such a viewer has no rights.
func (h *Handler) enrolFirst(ctx context.Context, next graphql.OperationHandler) graphql.ResponseHandler {
	if v := viewer.FromContext(ctx); v == nil || !v.Enrolling {
		return next(ctx)
	}
	op := graphql.GetOperationContext(ctx)
	for _, f := range graphql.CollectFields(op, op.Operation.SelectionSet, []string{"Query", "Mutation", "Subscription"}) {
		switch f.Name {
		case "__typename", "viewer", "beginSecondFactor", "confirmSecondFactor", "changePassword", "endSession", "endUserSessions":
		default:
			err := forbidden("The organization demands a second factor: set one up first, with beginSecondFactor and confirmSecondFactor.")
			return graphql.OneShot(&graphql.Response{Errors: gqlerror.List{h.present.present(ctx, err)}})
		}
	}
	return next(ctx)
}

// session is one websocket or event stream.
type session struct {
	h      *Handler
	header string // the credential
	socket bool
	viewer *viewer.Viewer
	cancel context.CancelCauseFunc

	running int // operations on the socket, under h.mu

	mu      sync.Mutex
	code    int
	message string
	over    *Error // why nothing may be sent any more
	look    clockwork.Timer
}

type sessionKey struct{}

func isSocket(ctx context.Context) bool {
	s, _ := ctx.Value(sessionKey{}).(*session)
	return s != nil && s.socket
}

// begin counts the session. looks is what looked said before the viewer was looked up:
// what has changed since then is looked at here, so that no change gets between the two.
func (s *session) begin(ctx context.Context, v *viewer.Viewer, cancel context.CancelCauseFunc, looks int) *Error {
	h := s.h
	h.mu.Lock()
	if h.streams[v.ID] >= h.opt.Limits.Streams {
		h.mu.Unlock()
		return limited("streams", "You have too many streams open.")
	}
	h.streams[v.ID]++
	s.viewer, s.cancel = v, cancel
	h.sessions[s] = struct{}{}
	changed := h.looks != looks
	h.mu.Unlock()
	if changed {
		now, _, err := h.authenticate(ctx, s.header)
		s.compare(now, err)
	}
	return nil
}

// more counts one operation more on a websocket; the first is counted with the socket itself.
func (s *session) more() *Error {
	h := s.h
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.running > 0 {
		if h.streams[s.viewer.ID] >= h.opt.Limits.Streams {
			return limited("streams", "You have too many streams open.")
		}
		h.streams[s.viewer.ID]++
	}
	s.running++
	return nil
}

// less counts one of them out.
func (s *session) less() {
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	if s.running--; s.running > 0 {
		s.h.streams[s.viewer.ID]--
	}
}

// end counts it out.
func (s *session) end() {
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	if _, counted := s.h.sessions[s]; !counted {
		return
	}
	delete(s.h.sessions, s)
	id := s.viewer.ID
	if s.h.streams[id]--; s.h.streams[id] == 0 {
		delete(s.h.streams, id)
	}
}

// close says how the socket is to be closed.
func (s *session) close(code int, message string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.code, s.message = code, message
}

func (s *session) reason() (int, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.code, s.message
}

// revoke ends the session: when it returns, nothing more goes out to the client but why.
func (s *session) revoke(message string) {
	e := &Error{Code: Unauthenticated, Message: message}
	s.mu.Lock()
	s.code, s.message, s.over = closeExpired, message, e
	s.mu.Unlock()
	s.cancel(e)
}

// revoked is why nothing may be sent any more, nil as long as it may.
func (s *session) revoked() *Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.over
}

// compare ends the session when its credential has ended, or when what it may see or do
// is not what it was: the permissions were looked at when the stream began.
func (s *session) compare(now *viewer.Viewer, err *Error) {
	switch {
	case err != nil && err.Code == Unauthenticated:
		s.revoke("The credential is not valid any more.")
	case err != nil:
		s.revoke("The hub cannot look your credential up now; connect again.")
	case !sameAccess(s.viewer, now):
		s.revoke("What you may do has changed; connect again.")
	}
}

// watch ends the session with its credential, and looks at it now and then until ctx ends:
// for what nobody tells of, such as a key set of an outside issuer. It keeps timers and no
// goroutine, as there may be thousands of sessions.
func (s *session) watch(ctx context.Context, expires time.Time) {
	clock := s.h.opt.Clock
	s.lookLater(ctx)
	context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.look.Stop()
	})
	if !expires.IsZero() {
		ends := clock.AfterFunc(expires.Sub(clock.Now()), func() {
			s.revoke("The credential has expired; connect again with a new one.")
		})
		context.AfterFunc(ctx, func() { ends.Stop() })
	}
}

// lookLater arranges for the next look.
func (s *session) lookLater(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.look = s.h.opt.Clock.AfterFunc(s.h.opt.Recheck, func() {
		now, _, err := s.h.authenticate(ctx, s.header)
		if ctx.Err() != nil {
			return
		}
		if err == nil || err.Code != Unavailable { // else it is not known; look again later
			s.compare(now, err)
		}
		s.lookLater(ctx)
	})
}

// looked is how often Recheck was called.
func (h *Handler) looked() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.looks
}

// Recheck looks at the credentials of the organization's open streams: its access or
// configuration has changed. Streams of viewers who may see or do other things than when
// they began are ended. When it returns, nothing goes out any more that was seen with
// rights taken away before the call.
func (h *Handler) Recheck(ctx context.Context, org string) {
	h.mu.Lock()
	h.looks++
	byCredential := map[string][]*session{}
	for s := range h.sessions {
		if s.viewer.Organization == org {
			byCredential[s.header] = append(byCredential[s.header], s)
		}
	}
	h.mu.Unlock()
	for header, list := range byCredential {
		now, _, err := h.authenticate(ctx, header)
		for _, s := range list {
			s.compare(now, err)
		}
	}
}

func sameAccess(a, b *viewer.Viewer) bool {
	sorted := func(v *viewer.Viewer) viewer.Viewer {
		c := *v
		c.Groups, c.Permissions = slices.Sorted(slices.Values(v.Groups)), slices.Sorted(slices.Values(v.Permissions))
		return c
	}
	return reflect.DeepEqual(sorted(a), sorted(b))
}

// writer gives each write to a client a limit, so that one that does not read cannot
// hold anything up, on streams and on websockets alike.
type writer struct {
	http.ResponseWriter
	rc    *http.ResponseController
	limit time.Duration
}

// Write implements io.Writer.
func (w *writer) Write(b []byte) (int, error) {
	_ = w.rc.SetWriteDeadline(time.Now().Add(w.limit)) // not every writer has one
	return w.ResponseWriter.Write(b)
}

// Flush implements http.Flusher.
func (w *writer) Flush() {
	_ = w.rc.SetWriteDeadline(time.Now().Add(w.limit))
	_ = w.rc.Flush()
}

// Hijack implements http.Hijacker.
func (w *writer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := w.rc.Hijack()
	if err != nil {
		return nil, nil, err
	}
	_ = c.SetDeadline(time.Time{})
	limited := &conn{c, w.limit}
	early, _ := rw.Peek(rw.Reader.Buffered())
	read := bufio.NewReaderSize(io.MultiReader(bytes.NewReader(early), c), max(readBuffer, len(early)))
	_, _ = read.Peek(len(early))
	return limited, bufio.NewReadWriter(read, bufio.NewWriterSize(limited, writeBuffer)), nil
}

// conn gives each write a limit.
type conn struct {
	net.Conn
	limit time.Duration
}

// Write implements net.Conn.
func (c *conn) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.limit)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}
