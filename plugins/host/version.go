package host

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// CompareVersions orders semantic versions; build metadata counts last, so that the
// order is total.
func CompareVersions(a, b string) int {
	coreA, preA, buildA := splitVersion(a)
	coreB, preB, buildB := splitVersion(b)
	if c := compareParts(coreA, coreB); c != 0 {
		return c
	}
	switch {
	case preA == preB:
		return cmp.Compare(buildA, buildB)
	case preA == "":
		return 1
	case preB == "":
		return -1
	}
	return cmp.Or(compareParts(preA, preB), cmp.Compare(preA, preB))
}

func splitVersion(v string) (core, pre, build string) {
	v, build, _ = strings.Cut(v, "+")
	core, pre, _ = strings.Cut(v, "-")
	return core, pre, build
}

// compareParts compares what stands between dots: numbers as numbers, and before words.
func compareParts(a, b string) int {
	return slices.CompareFunc(strings.Split(a, "."), strings.Split(b, "."), func(x, y string) int {
		n, errX := strconv.ParseUint(x, 10, 64)
		m, errY := strconv.ParseUint(y, 10, 64)
		switch {
		case errX == nil && errY == nil:
			return cmp.Compare(n, m)
		case errX == nil:
			return -1
		case errY == nil:
			return 1
		}
		return cmp.Compare(x, y)
	})
}
