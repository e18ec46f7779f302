package ledger

import (
	"encoding/base64"
	"strings"
)

// keyPosition is a place in the order of the keys.
type keyPosition struct {
	org, source string
	key         []byte
}

func (k keyPosition) String() string {
	return k.org + " " + k.source + " " + base64.RawStdEncoding.EncodeToString(k.key)
}

func (k *keyPosition) parse(s string) {
	k.key = []byte{}
	if f := strings.Split(s, " "); len(f) == 3 {
		k.org, k.source = f[0], f[1]
		if key, err := base64.RawStdEncoding.DecodeString(f[2]); err == nil {
			k.key = key
		}
	}
}
