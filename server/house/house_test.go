// Package house_test holds the house rules that a machine can check. A rule that none checks
// is not in the book.
package house_test

import (
	"bytes"
	"cmp"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	module = "github.com/hookyard/hookyard"
	root   = "../.." // of the repository
)

// imports is who may import whom inside the module: the first line that fits a package
// binds it. Patterns are paths below the module: "x/*" is one level below x, "x/..." is x
// and all below it, "." is below the package itself, ".." the package that it is in.
var imports = []struct {
	from, may, why string
}{
	{"connectors", "", "the contract is written against the standard library alone, so that a connector can be too"},
	{"connectors/builtin", "connectors connectors/*", "the list of everything shipped, and the only package that knows the rooms"},
	{"connectors/settings", "", "a leaf: JSON Schema in words for people"},
	{"connectors/*", ". connectors", "a room knows the contract and its vendor, never the hub or another room"},
	{"connectors/...", "connectors/... connectors", "parts of a room stay in it"},
	{"plugins/plugintest", "plugins/... connectors connectors/connectortest", "the suite of connectortest over the process boundary"},
	{"plugins/...", "plugins/... connectors connectors/settings", "the process boundary knows the contract and not what is on either side of it"},
	{"ent/ids", "", "a leaf that everyone may import"},
	{"ent/viewer", "", "a leaf that everyone may import"},
	{"ent/rule", "ent/gen/privacy ent/viewer ent/ids", "regeneration must never wait for a rule, so rules see small filter interfaces and not the generated models"},
	{"ent/...", "ent/... connectors", "storage knows what it stores and not who uses it"},
	{"graph/...", "graph/... ent/... connectors connectors/settings server/flow", "the API checks, calls and returns: it is given the parts of the server as small interfaces"},
	{"server/flow", "connectors", "a leaf of plain structs between the parts"},
	{"server/servertest/...", "...", "a whole hub in a test"},
	{"server/cmd/...", "server server/presence/agent server/servertest/... server/cmd/... server/flow connectors connectors/builtin plugins/... ent/... graph/... web", "commands start the hub or talk to it from outside"},
	{"server/presence/agent", ".. connectors", "the agent is far away from the hub, and knows it by its API only"},
	{"server/*", ". server/flow connectors ent/...", "events move forward: parts meet in hub.go, through interfaces that the user declares"},
	{"server/*/...", ".. server/flow connectors ent/...", "parts meet in hub.go"},
	{"server", "connectors/settings server/flow server/auth server/ingest server/route server/ledger server/dispatch server/watch server/presence server/trigger graph/... ent/... plugins/... connectors connectors/builtin web", "hub.go wires everything, but knows a connector only by the contract"},
	{"examples/...", "examples/... connectors connectors/connectortest plugins plugins/plugintest", "examples are written as a stranger would write them"},
	{"web", "", "the console's files are embedded, nothing more"},
}

// elsewhere is what packages outside the module may not be imported from where.
var elsewhere = []struct {
	from, never, why string
}{
	{"connectors/...", "os/exec", "a connector runs nothing; scanners are run by the host"},
	{"connectors/...", "net/rpc", "a connector goes out through connectors.Host only"},
	{"connectors/...", "github.com/valyala/fasthttp", "a connector goes out through connectors.Host only"},
	{"connectors/...", "github.com/go-resty/resty", "a connector goes out through connectors.Host only"},
	{"connectors/...", "github.com/hashicorp/go-retryablehttp", "a connector goes out through connectors.Host only, and the hub retries"},
	{"graph/...", "github.com/hashicorp/go-plugin", "the API never talks to a plugin"},
	{"...", "log", "log/slog is the only log"},
	{"...", "io/ioutil", "os and io have it all"},
	{"...", "github.com/stretchr/testify", "tests are written with the standard library"},
}

// names at the top of the repository: the ten that are fixed, and those of convention.
var topLevel = strings.Fields(`graph ent connectors plugins server web go.mod go.sum gqlgen.yml README.md
	Makefile LICENSE CHANGELOG.md CONTRIBUTING.md docs examples .ci .golangci.yml .gitignore .gitattributes .git`)

// inPath are the packages whose comment says their place in the path of an event.
var inPath = strings.Fields(`connectors plugins plugins/host graph server/flow
	server/auth server/ingest server/route server/ledger server/dispatch server/watch server/presence server/trigger`)

func TestHouseImports(t *testing.T) {
	for _, f := range parse(t, parser.ImportsOnly) {
		if f.test {
			continue
		}
		for _, spec := range f.ast.Imports {
			to, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if to == module || strings.HasPrefix(to, module+"/") {
				to = strings.TrimPrefix(strings.TrimPrefix(to, module), "/")
				i := slices.IndexFunc(imports, func(r struct{ from, may, why string }) bool { return fits(r.from, f.dir) })
				if i < 0 {
					t.Errorf("%s: no rule says what %s may import; add one with its reason", f.path, f.dir)
					continue
				}
				ok := slices.ContainsFunc(strings.Fields(imports[i].may), func(p string) bool {
					return fits(p, to) || p == "." && strings.HasPrefix(to, f.dir+"/") || p == ".." && to == path.Dir(f.dir)
				})
				if !ok {
					t.Errorf("%s imports %s, and must not: %s", f.path, to, imports[i].why)
				}
				continue
			}
			for _, r := range elsewhere {
				if generator := f.ast.Name.Name == "main" && !fits("server/...", f.dir); generator && r.never == "log" {
					continue
				}
				if fits(r.from, f.dir) && (to == r.never || strings.HasPrefix(to, r.never+"/")) && !standard(r.never, to) {
					t.Errorf("%s imports %s, and must not: %s", f.path, to, r.why)
				}
			}
			if f.dir == "connectors" && strings.Contains(strings.Split(to, "/")[0], ".") {
				t.Errorf("%s imports %s, and must not: the contract imports the standard library only", f.path, to)
			}
		}
	}
}

// standard says that to is another package of the standard library that only begins like never: log/slog.
func standard(never, to string) bool {
	return !strings.Contains(never, ".") && to != never
}

// A room gets its connections and clients from the host; making its own would go round the address policy.
func TestHouseConnectorsGoOutThroughTheHost(t *testing.T) {
	forbidden := map[string]string{"http.Client": "", "http.Transport": "", "net.Dialer": "", "net.Resolver": "", "tls.Dialer": ""}
	for _, f := range parse(t, 0) {
		if f.test || !strings.HasPrefix(f.dir, "connectors/") || fits("connectors/connectortest", f.dir) {
			continue
		}
		check := func(e ast.Expr) {
			if s, ok := e.(*ast.SelectorExpr); ok {
				if x, ok := s.X.(*ast.Ident); ok {
					name := x.Name + "." + s.Sel.Name
					if _, bad := forbidden[name]; bad {
						t.Errorf("%s makes its own %s; ask connectors.Host for it", f.at(s.Pos()), name)
					}
				}
			}
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CompositeLit:
				check(n.Type)
			case *ast.ValueSpec:
				check(n.Type)
			case *ast.CallExpr:
				if id, ok := n.Fun.(*ast.Ident); ok && id.Name == "new" && len(n.Args) == 1 {
					check(n.Args[0])
				}
			}
			return true
		})
	}
}

func TestHouseInterfacesAreSmall(t *testing.T) {
	for _, f := range parse(t, 0) {
		if f.test {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if s, ok := n.(*ast.TypeSpec); ok {
				if i, ok := s.Type.(*ast.InterfaceType); ok && len(i.Methods.List) > 4 {
					t.Errorf("%s: interface %s has %d methods; four is the most that a user needs of one thing", f.at(s.Pos()), s.Name.Name, len(i.Methods.List))
				}
			}
			return true
		})
	}
}

func TestHousePackageComments(t *testing.T) {
	docs := map[string]string{}
	for _, f := range parse(t, parser.ParseComments|parser.PackageClauseOnly) {
		if !f.test {
			docs[f.dir] += f.ast.Doc.Text()
		}
	}
	for dir, doc := range docs {
		switch {
		case doc == "":
			t.Errorf("%s has no package comment; say its place and what it guarantees", cmp.Or(dir, "the root"))
		case !strings.HasPrefix(doc, "Package ") && !strings.HasPrefix(doc, "Command "):
			t.Errorf("%s: the package comment begins %.30q; begin with Package or Command and the name", dir, doc)
		case slices.Contains(inPath, dir) && !strings.Contains(doc, "Place"):
			t.Errorf("%s: the package comment does not say its place in the path of an event (\"Place: …\")", dir)
		}
		if slices.Contains([]string{"util", "utils", "common", "helper", "helpers", "misc", "lib", "pkg", "models", "services", "types"}, path.Base(dir)) {
			t.Errorf("%s is named after nothing; a package is named after what it is", dir)
		}
	}
}

func TestHouseTopLevelNames(t *testing.T) {
	ignored, err := os.ReadFile(filepath.Join(root, ".gitignore"))
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !slices.Contains(topLevel, e.Name()) && !slices.Contains(strings.Fields(string(ignored)), "/"+e.Name()+"/") {
			t.Errorf("%s has no place at the top of the repository", e.Name())
		}
	}
}

// The repository stands for itself: nothing in it names the machine it was written on or a mirror.
func TestHouseMentions(t *testing.T) {
	// in two parts each, so that this file does not mention them either
	words := []string{"../" + "shared", "/wo" + "rk/", "/tmp/" + "hk", "." + "library", "/ro" + "ot/", "/ho" + "me/",
		"proxy.golang" + ".org", "registry.npmjs" + ".org"}
	walk(t, func(file string) {
		if base := path.Base(file); strings.HasSuffix(base, ".sum") || base == "package-lock.json" || strings.HasPrefix(file, "web/dist/") {
			return
		}
		b, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.IndexByte(b, 0) >= 0 {
			return
		}
		for _, w := range words {
			if i := bytes.Index(b, []byte(w)); i >= 0 {
				t.Errorf("%s:%d mentions %s", file, 1+bytes.Count(b[:i], []byte("\n")), w)
			}
		}
	})
}

// source is one hand-written Go file; dir and path are below the repository's top.
type source struct {
	dir, path string
	test      bool
	ast       *ast.File
	set       *token.FileSet
}

func (s source) at(p token.Pos) string {
	return s.path + ":" + strconv.Itoa(s.set.Position(p).Line)
}

func parse(t *testing.T, mode parser.Mode) []source {
	t.Helper()
	set := token.NewFileSet()
	var files []source
	walk(t, func(file string) {
		if !strings.HasSuffix(file, ".go") {
			return
		}
		b, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		f, err := parser.ParseFile(set, file, b, mode|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.HasPrefix(b, []byte("// Code generated ")) || bytes.Contains(b, []byte("\n//go:build ignore\n")) || bytes.HasPrefix(b, []byte("//go:build ignore\n")) {
			return
		}
		dir := path.Dir(file)
		if dir == "." {
			dir = ""
		}
		files = append(files, source{dir: dir, path: file, test: strings.HasSuffix(file, "_test.go"), ast: f, set: set})
	})
	if len(files) < 10 {
		t.Fatalf("only %d Go files found: this test looks in the wrong place", len(files))
	}
	return files
}

// walk calls f with every file of the repository that git does not ignore.
func walk(t *testing.T, f func(file string)) {
	t.Helper()
	skip := []string{".git", "bin", "tmp", "data", "node_modules"}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if slices.Contains(skip, d.Name()) && (d.IsDir() || d.Name() == ".git") {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if d.Type().IsRegular() {
			file, err := filepath.Rel(root, p)
			if err != nil {
				return err
			}
			f(filepath.ToSlash(file))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// fits says whether the pattern names the package; see imports.
func fits(pattern, pkg string) bool {
	if pattern == "..." {
		return true
	}
	if base, ok := strings.CutSuffix(pattern, "/..."); ok {
		if parent, ok := strings.CutSuffix(base, "/*"); ok {
			return strings.HasPrefix(pkg, parent+"/")
		}
		return pkg == base || strings.HasPrefix(pkg, base+"/")
	}
	if base, ok := strings.CutSuffix(pattern, "/*"); ok {
		return path.Dir(pkg) == base
	}
	return pattern == pkg
}

// What the documentation says is shown by a test is shown by one that there is.
func TestHouseDocsNameTests(t *testing.T) {
	there := map[string]bool{}
	for _, f := range parse(t, 0) {
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && f.test && fn.Recv == nil {
				there[fn.Name.Name] = true
			}
		}
	}
	named := regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Za-z0-9]+)")
	docs, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil || len(docs) == 0 {
		t.Fatalf("no documents: %v", err)
	}
	for _, file := range docs {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range named.FindAllSubmatch(b, -1) {
			if !there[string(m[1])] {
				t.Errorf("%s names %s, and there is no such test", filepath.Base(file), m[1])
			}
		}
	}
}
