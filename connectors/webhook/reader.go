package webhook

import (
	"bytes"
	"math"
	"net/http"
	"strconv"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/hookyard/hookyard/connectors"
)

// maxDepth is how deep values may be nested.
const maxDepth = 64

// reader reads one JSON document, which must be UTF-8, from front to back and knows the path of what it
// reads. It is our own because the common decoders read a document twice and cannot say
// where a member that they do not know stands; a fuzz test holds it to encoding/json.
// The first refusal stays in err, and everything read after it is empty.
type reader struct {
	b    []byte
	i    int
	path []byte
	err  error
}

// malformed notes that the body is not JSON.
func (r *reader) malformed(what string) {
	if r.err == nil {
		r.err = connectors.Refuse(http.StatusBadRequest, string(r.path), "not JSON: %s at byte %d", what, r.i)
	}
}

// refuse notes that the value at the current path is not acceptable.
func (r *reader) refuse(format string, args ...any) {
	if r.err == nil {
		r.err = connectors.Refuse(http.StatusUnprocessableEntity, string(r.path), format, args...)
	}
}

// refuseAt is refuse for a member of the current value.
func (r *reader) refuseAt(member, format string, args ...any) {
	n := r.enter(member)
	r.refuse(format, args...)
	r.path = r.path[:n]
}

func (r *reader) enter(member string) (length int) {
	length = len(r.path)
	if length > 0 && r.path[length-1] != '-' { // "ce-" and an attribute make a header's name
		r.path = append(r.path, '.')
	}
	r.path = append(r.path, member...)
	return length
}

// peek returns the first byte of the next value, 0 at the end.
func (r *reader) peek() byte {
	for ; r.i < len(r.b); r.i++ {
		switch c := r.b[r.i]; c {
		case ' ', '\t', '\n', '\r':
		default:
			return c
		}
	}
	return 0
}

// take consumes c, if it comes next.
func (r *reader) take(c byte) bool {
	if r.peek() != c {
		return false
	}
	r.i++
	return true
}

// end says that nothing may follow.
func (r *reader) end() {
	r.peek()
	if r.err == nil && r.i < len(r.b) {
		r.malformed("more after the end")
	}
}

// null consumes a null, if it comes next.
func (r *reader) null() bool {
	if r.peek() != 'n' {
		return false
	}
	r.literal("null")
	return true
}

func (r *reader) literal(word string) {
	if len(r.b)-r.i < len(word) || string(r.b[r.i:r.i+len(word)]) != word {
		r.malformed("unknown word")
		return
	}
	r.i += len(word)
}

// object calls member for each member with its name; member must read the value.
func (r *reader) object(member func(name []byte)) {
	if r.err != nil {
		return
	}
	if !r.take('{') {
		r.wrong("an object")
		return
	}
	if r.take('}') {
		return
	}
	for {
		if r.peek() != '"' {
			r.malformed("a member's name is missing")
			return
		}
		name := r.bytes(nil)
		if r.err == nil && !r.take(':') {
			r.malformed("a colon is missing")
		}
		if r.err != nil {
			return
		}
		n := len(r.path)
		if n > 0 {
			r.path = append(r.path, '.')
		}
		r.path = append(r.path, name...)
		member(name)
		if r.err != nil {
			return
		}
		r.path = r.path[:n]
		if r.take(',') {
			continue
		}
		if !r.take('}') {
			r.malformed("a comma or brace is missing")
		}
		return
	}
}

// array calls element for each element; element must read the value.
func (r *reader) array(element func(i int)) {
	if r.err != nil {
		return
	}
	if !r.take('[') {
		r.wrong("an array")
		return
	}
	if r.take(']') {
		return
	}
	n := len(r.path)
	for i := 0; ; i++ {
		r.path = append(strconv.AppendInt(append(r.path[:n], '['), int64(i), 10), ']')
		element(i)
		if r.err != nil {
			return
		}
		r.path = r.path[:n]
		if r.take(',') {
			continue
		}
		if !r.take(']') {
			r.malformed("a comma or bracket is missing")
		}
		return
	}
}

// wrong refuses a value of another kind; what is not a value at all is malformed.
func (r *reader) wrong(want string) {
	at := r.i
	r.skip(0)
	if r.err == nil {
		r.i = at
		r.refuse("must be %s", want)
	}
}

// string reads a string; null is "".
func (r *reader) string() string {
	if r.err != nil || r.null() {
		return ""
	}
	if r.peek() != '"' {
		r.wrong("a string")
		return ""
	}
	var scratch [64]byte
	b := r.bytes(scratch[:0])
	if r.err == nil && bytes.IndexByte(b, 0) >= 0 {
		r.refuse("must not hold a NUL character")
	}
	if r.err != nil {
		return ""
	}
	return string(b)
}

// bytes reads the string that begins here. The outcome is part of the document, or in
// scratch when there was something to unescape.
func (r *reader) bytes(scratch []byte) []byte {
	r.i++
	start := r.i
	for ; r.i < len(r.b); r.i++ {
		switch c := r.b[r.i]; {
		case c == '"':
			r.i++
			return r.b[start : r.i-1]
		case c == '\\':
			return r.escaped(append(scratch, r.b[start:r.i]...))
		case c < ' ':
			r.malformed("a control character in a string")
			return nil
		}
	}
	r.malformed("a string has no end")
	return nil
}

// escaped goes on with a string at its first escape.
func (r *reader) escaped(s []byte) []byte {
	for r.i < len(r.b) {
		c := r.b[r.i]
		r.i++
		switch {
		case c == '"':
			return s
		case c < ' ':
			r.malformed("a control character in a string")
			return nil
		case c != '\\':
			s = append(s, c)
			continue
		}
		if r.i == len(r.b) {
			break
		}
		c = r.b[r.i]
		r.i++
		switch c {
		case '"', '\\', '/':
			s = append(s, c)
		case 'b':
			s = append(s, '\b')
		case 'f':
			s = append(s, '\f')
		case 'n':
			s = append(s, '\n')
		case 'r':
			s = append(s, '\r')
		case 't':
			s = append(s, '\t')
		case 'u':
			u := r.hex()
			if utf16.IsSurrogate(u) && r.i+1 < len(r.b) && r.b[r.i] == '\\' && r.b[r.i+1] == 'u' {
				at := r.i
				r.i += 2
				if u = utf16.DecodeRune(u, r.hex()); u == utf8.RuneError {
					r.i = at // two halves that do not fit: the second stands for itself
				}
			}
			s = utf8.AppendRune(s, u) // a lone half becomes U+FFFD
		default:
			r.malformed("an unknown escape in a string")
		}
		if r.err != nil {
			return nil
		}
	}
	r.malformed("a string has no end")
	return nil
}

func (r *reader) hex() rune {
	if len(r.b)-r.i < 4 {
		r.malformed("a short escape in a string")
		return 0
	}
	n, err := strconv.ParseUint(string(r.b[r.i:r.i+4]), 16, 32)
	if err != nil {
		r.malformed("an unknown escape in a string")
		return 0
	}
	r.i += 4
	return rune(n)
}

// number returns the text of the number that begins here; nil when there is none.
func (r *reader) number() []byte {
	start := r.i
	digits := func() bool {
		from := r.i
		for r.i < len(r.b) && r.b[r.i] >= '0' && r.b[r.i] <= '9' {
			r.i++
		}
		return r.i > from
	}
	if r.b[r.i] == '-' {
		r.i++
	}
	ok := true
	if r.i < len(r.b) && r.b[r.i] == '0' {
		r.i++
	} else {
		ok = digits()
	}
	if ok && r.i < len(r.b) && r.b[r.i] == '.' {
		r.i++
		ok = digits()
	}
	if ok && r.i < len(r.b) && (r.b[r.i] == 'e' || r.b[r.i] == 'E') {
		r.i++
		if r.i < len(r.b) && (r.b[r.i] == '+' || r.b[r.i] == '-') {
			r.i++
		}
		ok = digits()
	}
	if !ok {
		r.malformed("a broken number")
		return nil
	}
	return r.b[start:r.i]
}

func isNumber(c byte) bool { return c == '-' || c >= '0' && c <= '9' }

// int reads a whole number in 0..most; null is nil.
func (r *reader) int(most int) *int {
	if r.err != nil || r.null() {
		return nil
	}
	if !isNumber(r.peek()) {
		r.wrong("a whole number")
		return nil
	}
	n, err := strconv.ParseInt(string(r.number()), 10, 64)
	if err != nil || n < 0 || n > int64(most) {
		r.refuse("must be a whole number from 0 to %d", most)
		return nil
	}
	i := int(n)
	return &i
}

// score reads a number in 0..10; null is nil.
func (r *reader) score() *float64 {
	if r.err != nil || r.null() {
		return nil
	}
	if !isNumber(r.peek()) {
		r.wrong("a number")
		return nil
	}
	n, err := strconv.ParseFloat(string(r.number()), 64)
	if err != nil || math.Signbit(n) || n > 10 {
		r.refuse("must be a number from 0 to 10")
		return nil
	}
	return &n
}

// bool reads a truth value; null is nil.
func (r *reader) bool() *bool {
	if r.err != nil || r.null() {
		return nil
	}
	var v bool
	switch r.peek() {
	case 't':
		v = true
		r.literal("true")
	case 'f':
		r.literal("false")
	default:
		r.wrong("true or false")
	}
	return &v
}

// time reads an RFC 3339 time; null is nil.
func (r *reader) time() *time.Time {
	s := r.string()
	if s == "" {
		return nil
	}
	t, ok := parseTime(s)
	if !ok {
		r.refuse("must be an RFC 3339 time such as 2026-04-10T14:30:00Z")
		return nil
	}
	return &t
}

// parseTime reads an RFC 3339 time as UTC, within the years that RFC 3339 can write.
func parseTime(s string) (time.Time, bool) {
	t, err := time.Parse(time.RFC3339, s)
	t = t.UTC()
	return t, err == nil && t.Year() >= 1 && t.Year() <= 9999
}

// strings reads an array of strings; null is none.
func (r *reader) strings() (list []string) {
	if r.err != nil || r.null() {
		return nil
	}
	r.array(func(int) { list = append(list, r.string()) })
	return list
}

// raw reads over a value and returns its text.
func (r *reader) raw() []byte {
	if r.err != nil {
		return nil
	}
	r.peek()
	start := r.i
	r.skip(0)
	return r.b[start:r.i]
}

// skip reads over a value.
func (r *reader) skip(depth int) {
	if r.err != nil {
		return
	}
	if depth > maxDepth {
		r.refuse("is nested more than %d deep", maxDepth)
		return
	}
	switch c := r.peek(); {
	case c == '"':
		r.skipString()
	case c == '{' || c == '[':
		r.skipInside(c, depth)
	case c == 't':
		r.literal("true")
	case c == 'f':
		r.literal("false")
	case c == 'n':
		r.literal("null")
	case isNumber(c):
		r.number()
	case c == 0 && r.i >= len(r.b):
		r.malformed("it ends too early")
	default:
		r.malformed("not a value")
	}
}

func (r *reader) skipString() {
	var scratch [64]byte
	r.bytes(scratch[:0])
}

// skipInside reads over an object or an array.
func (r *reader) skipInside(open byte, depth int) {
	r.i++
	closing := open + 2 // in ASCII '}' is '{' + 2 and ']' is '[' + 2
	if r.take(closing) {
		return
	}
	for r.err == nil {
		if open == '{' {
			if r.peek() != '"' {
				r.malformed("a member's name is missing")
				return
			}
			r.skipString()
			if r.err == nil && !r.take(':') {
				r.malformed("a colon is missing")
			}
		}
		r.skip(depth + 1)
		if r.err != nil || r.take(closing) {
			return
		}
		if !r.take(',') {
			r.malformed("a comma is missing")
		}
	}
}
