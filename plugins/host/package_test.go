package host

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/plugins"
	"github.com/hookyard/hookyard/plugins/sandbox"
)

// folderOf makes a folder that can be packed: a small file for which this program is the
// interpreter, because the program itself is large and the race detector slow.
func folderOf(t testing.TB, args ...string) string {
	t.Helper()
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	d, err := json.Marshal(map[string]any{"run": append([]string{self, "plugin"}, args...), "grants": map[string]any{"egress": []string{"api.example.com:443"}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(filepath.Join(dir, DraftFile), d, 0o600), os.WriteFile(filepath.Join(dir, "connector"), []byte(strings.Join(args, " ")), 0o700)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// compiled makes another package of an installed one, whose program is in it, and installs it.
func compiled(t testing.TB, s *Store, of *Package) *Package {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "connector")
	if self, err := os.Executable(); err != nil || os.Link(self, program) != nil {
		copyProgram(t, program)
	}
	files, err := sumFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	m := *of.Manifest
	m.System, m.Files, m.Run = System(), files, append([]string{"connector"}, of.Run[1:]...)
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, ManifestFile), b, 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := s.Install(dir, true, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// pack makes an archive of a folder.
func pack(t testing.TB, dir, key string) (file string, p *Package) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "package.tar.gz")
	out, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	if p, err = Pack(t.Context(), dir, key, "", "test", out); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	return file, p
}

// packs are packages that were made once for all tests, by what they run.
var packs sync.Map

// install puts a connector into a store.
func install(t testing.TB, s *Store, args ...string) *Package {
	t.Helper()
	what := strings.Join(args, " ")
	made, ok := packs.Load(what)
	if !ok {
		file, _ := pack(t, folderOf(t, args...), "")
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		made, _ = packs.LoadOrStore(what, b)
	}
	file := filepath.Join(t.TempDir(), "package.tar.gz")
	if err := os.WriteFile(file, made.([]byte), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := s.Install(file, true, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// storeOf is an empty store whose files can be removed.
func storeOf(t testing.TB) *Store { return NewStore(t.TempDir()) }

// Two operators install the same version with other content: there is one of it.
func TestTwoInstallAtOnce(t *testing.T) {
	_, packed := pack(t, folderOf(t, "obedient", "1.0.0"), "")
	variant := func(description string) string {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "connector"), []byte("obedient 1.0.0"), 0o700); err != nil {
			t.Fatal(err)
		}
		m := *packed.Manifest
		m.Description = description
		b, err := json.Marshal(m)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, ManifestFile), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		return dir
	}
	dirs := []string{variant("This one."), variant("That one.")}
	for range 20 {
		s := storeOf(t)
		errs := make([]error, len(dirs))
		var both sync.WaitGroup
		for i, dir := range dirs {
			both.Go(func() { _, errs[i] = NewStore(filepath.Dir(s.dir)).Install(dir, true, nil) })
		}
		both.Wait()
		list, strays, err := s.List()
		if err != nil || len(strays) > 0 || len(list) != 1 || (errs[0] == nil) == (errs[1] == nil) {
			t.Fatalf("%d are installed, with %v: %v", len(list), errs, err)
		}
	}
}

func TestPackagesAreInstalledVerifiedAndRemoved(t *testing.T) {
	s := storeOf(t)
	keys := filepath.Join(t.TempDir(), "acme")
	if err := NewPublisherKey(keys, ""); err != nil {
		t.Fatal(err)
	}
	file, packed := pack(t, folderOf(t, "obedient", "1.0.0"), keys+".key")
	if packed.Name != "obedient" || packed.Version != "1.0.0" || packed.Protocol != 1 || packed.System != "" || !packed.TakesRequest ||
		!slices.Equal(packed.Grants.Egress, []string{"api.example.com:443"}) {
		t.Errorf("packed as %+v", packed.Manifest)
	}
	if _, err := s.Install(file, false, nil); err == nil || !strings.Contains(err.Error(), "no publisher") {
		t.Errorf("a package of a stranger was taken: %v", err)
	}
	text, err := os.ReadFile(keys + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Trust("acme", text); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Install(file, false, []string{"obedient"}); err == nil || !strings.Contains(err.Error(), "ships") {
		t.Errorf("a package took the name of a shipped connector: %v", err)
	}
	p, err := s.Install(file, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	if p.Digest != packed.Digest || p.Publisher != "acme" {
		t.Errorf("installed as %s of %q, packed as %s", p.Digest, p.Publisher, packed.Digest)
	}
	if _, err := s.Install(file, false, nil); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("installed twice: %v", err)
	}
	other := folderOf(t, "obedient", "1.0.0")
	if err := os.WriteFile(filepath.Join(other, "more"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	changed, _ := pack(t, other, "")
	if _, err := s.Install(changed, true, nil); err == nil || !strings.Contains(err.Error(), "a version never changes") {
		t.Errorf("a version was changed: %v", err)
	}
	before := s.Print()
	second := install(t, s, "obedient", "1.10.0")
	third := install(t, s, "obedient", "1.9.0")
	if s.Print() == before {
		t.Error("a running hub would not notice what was installed")
	}
	list, strays, err := s.List()
	if err != nil || len(strays) > 0 || len(list) != 3 || list[0].Digest != p.Digest || list[1].Digest != third.Digest || list[2].Digest != second.Digest {
		t.Errorf("the list is %v, %v, %v", list, strays, err)
	}
	if err := list[0].Verify(); err != nil {
		t.Error(err)
	}
	if err := s.Remove(second); err != nil {
		t.Error(err)
	}
	if _, err := s.Find("obedient", "1.10.0"); err == nil {
		t.Error("it was removed and is there")
	}
	if left, _ := filepath.Glob(filepath.Join(s.dir, ".*")); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
	// The same folder gives the same bytes.
	dir := folderOf(t, "obedient", "1.0.0")
	a, _ := pack(t, dir, "")
	b, _ := pack(t, dir, "")
	if sumOf(t, a) != sumOf(t, b) {
		t.Error("a package of the same folder is different each time")
	}
}

// tamper changes a file of an installed package as whoever has the folder can.
func tamper(t testing.TB, file string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-1] ^= 1
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, b, 0o700); err != nil {
		t.Fatal(err)
	}
}

func TestTamperingIsFound(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(t *testing.T, dir string)
		said string
	}{
		"a file is changed":   {func(t *testing.T, dir string) { tamper(t, filepath.Join(dir, "connector")) }, "is not what the manifest says"},
		"a file is longer":    {func(t *testing.T, dir string) { grow(t, filepath.Join(dir, "connector")) }, "bytes"},
		"a file is missing":   {func(t *testing.T, dir string) { _ = os.Remove(filepath.Join(dir, "connector")) }, "missing"},
		"there is one more":   {func(t *testing.T, dir string) { _ = os.WriteFile(filepath.Join(dir, "more"), nil, 0o600) }, "not in the manifest"},
		"a file is a link":    {func(t *testing.T, dir string) { link(t, filepath.Join(dir, "connector")) }, "no plain file"},
		"the manifest itself": {func(t *testing.T, dir string) { grow(t, filepath.Join(dir, ManifestFile)) }, "not the one that was installed"},
	} {
		t.Run(name, func(t *testing.T) {
			s := storeOf(t)
			p := install(t, s, "obedient", "1.0.0")
			c.do(t, p.dir)
			if err := p.Verify(); err == nil || !strings.Contains(err.Error(), c.said) {
				t.Errorf("verified: %v", err)
			}
		})
	}
}

func grow(t testing.TB, file string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err == nil {
		_ = os.Remove(file)
		err = os.WriteFile(file, append(b, '\n'), 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func link(t testing.TB, file string) {
	t.Helper()
	if err := errors.Join(os.Rename(file, file+"-moved"), os.Symlink(file+"-moved", file)); err != nil {
		t.Fatal(err)
	}
}

// archive writes a tar.gz of headers with their content.
func archive(t testing.TB, entries ...any) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for i := 0; i < len(entries); i += 2 {
		h, content := entries[i].(tar.Header), entries[i+1].(string)
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(content))
		}
		if h.Mode == 0 {
			h.Mode = 0o755
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); h.Typeflag == tar.TypeReg && err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "package.tar.gz")
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// manifestOf is a manifest with one program, changed by change.
func manifestOf(t testing.TB, change func(m map[string]any)) string {
	t.Helper()
	m := map[string]any{"name": "x", "title": "X", "description": "", "version": "1.0.0", "protocol": 1, "abilities": []string{"DELIVER"},
		"run": []string{"x"}, "grants": map[string]any{}, "files": map[string]any{"x": map[string]any{
			"sha256": "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881", "size": 1, "executable": true}}}
	if change != nil {
		change(m)
	}
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestHostilePackagesAreRefused(t *testing.T) {
	file := func(name string) tar.Header { return tar.Header{Name: name} }
	manifest := file(ManifestFile)
	good := manifestOf(t, nil)
	outside := filepath.Join(t.TempDir(), "outside")
	for name, c := range map[string]struct {
		archive string
		said    string
	}{
		"no archive":              {"/bin/true", "no package"},
		"not there":               {"/nonexistent", "no such file"},
		"no manifest":             {archive(t, file("x"), "x"), "has no manifest.json"},
		"a path upwards":          {archive(t, manifest, good, file("../x"), "x"), "no path"},
		"a path upwards, hidden":  {archive(t, manifest, good, file("a/../../x"), "x"), "no path"},
		"an absolute path":        {archive(t, manifest, good, file(outside), "x"), "no path"},
		"a path with a backslash": {archive(t, manifest, good, file(`a\x`), "x"), "no path"},
		"a path with a line":      {archive(t, manifest, good, file("a\nb"), "x"), "no path"},
		"a long path":             {archive(t, manifest, good, file(strings.Repeat("a/", 200)+"x"), "x"), "no path"},
		"a folder upwards":        {archive(t, manifest, good, tar.Header{Name: "../up/", Typeflag: tar.TypeDir}, ""), "outside"},
		"a link":                  {archive(t, manifest, good, tar.Header{Name: "x", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}, ""), "links"},
		"a hard link":             {archive(t, manifest, good, tar.Header{Name: "x", Typeflag: tar.TypeLink, Linkname: "/etc/passwd"}, ""), "links"},
		"a device":                {archive(t, manifest, good, tar.Header{Name: "x", Typeflag: tar.TypeBlock}, ""), "devices"},
		"a pipe":                  {archive(t, manifest, good, tar.Header{Name: "x", Typeflag: tar.TypeFifo}, ""), "devices"},
		"a file twice":            {archive(t, manifest, good, file("x"), "x", file("./x"), "y"), "twice"},
		"the manifest twice":      {archive(t, manifest, good, file("./manifest.json"), "{}"), "twice"},
		"a file in a file":        {archive(t, manifest, good, file("x"), "x", file("x/y"), "y"), "not a directory"},
		"a file too many":         {archive(t, manifest, good, file("x"), "x", file("y"), "y"), "not in the manifest"},
		"a file too few":          {archive(t, manifest, good), "missing"},
		"another content":         {archive(t, manifest, good, file("x"), "y"), "is not what the manifest says"},
		"not executable":          {archive(t, manifest, good, tar.Header{Name: "x", Mode: 0o600}, "x"), "executable"},
		"a bomb":                  {archive(t, manifest, good, file("x"), strings.Repeat("0", 20<<20)), "larger than"},
		"a name as a path":        {archive(t, manifest, manifestOf(t, func(m map[string]any) { m["name"] = "../x" }), file("x"), "x"), "name"},
		"a version as a path":     {archive(t, manifest, manifestOf(t, func(m map[string]any) { m["version"] = "1.0.0/../../x" }), file("x"), "x"), "version"},
		"another protocol":        {archive(t, manifest, manifestOf(t, func(m map[string]any) { m["protocol"] = 99 }), file("x"), "x"), "protocol"},
		"another system":          {archive(t, manifest, manifestOf(t, func(m map[string]any) { m["system"] = "plan9/mips" }), file("x"), "x"), "this machine is"},
		"a word unknown":          {archive(t, manifest, manifestOf(t, func(m map[string]any) { m["sudo"] = true }), file("x"), "x"), "unknown field"},
		"a grant upwards":         {archive(t, manifest, manifestOf(t, func(m map[string]any) { m["grants"] = map[string]any{"paths": []string{"/a/../b"}} }), file("x"), "x"), "grants"},
		"a grant of everything":   {archive(t, manifest, manifestOf(t, func(m map[string]any) { m["grants"] = map[string]any{"paths": []string{"/"}} }), file("x"), "x"), "grants"},
		"a program outside":       {archive(t, manifest, manifestOf(t, func(m map[string]any) { m["run"] = []string{"../sh"} }), file("x"), "x"), "no file"},
		"a schema from a file": {archive(t, manifest, manifestOf(t, func(m map[string]any) {
			m["settings"] = map[string]any{"$ref": "file:///etc/hostname"}
		}), file("x"), "x"), "settings"},
		"a manifest too large": {archive(t, manifest, good+strings.Repeat(" ", maxManifest), file("x"), "x"), "at most"},
		"not a signature":      {archive(t, manifest, good, file(SignatureFile), "x", file("x"), "x"), "no minisign signature"},
	} {
		t.Run(name, func(t *testing.T) {
			s := storeOf(t)
			s.most = 10 << 20
			_, err := s.Install(c.archive, true, nil)
			if err == nil || !strings.Contains(err.Error(), c.said) {
				t.Errorf("got %v, want %q", err, c.said)
			}
			left, _ := filepath.Glob(filepath.Join(s.dir, "*"))
			hidden, _ := filepath.Glob(filepath.Join(s.dir, ".*"))
			if len(left)+len(hidden) > 0 {
				t.Errorf("left over: %v %v", left, hidden)
			}
		})
	}
	if _, err := os.Stat(outside); err == nil {
		t.Error("something was written outside")
	}
	if _, err := storeOf(t).Install(archive(t, manifest, good, file("x"), "x"), true, nil); err != nil {
		t.Errorf("the harmless one: %v", err)
	}
}

func TestASignatureOfATrustedKeyMustBeGenuine(t *testing.T) {
	keys := filepath.Join(t.TempDir(), "acme")
	if err := NewPublisherKey(keys, ""); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(keys + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	s := storeOf(t)
	if _, err := s.Trust("acme", text); err != nil {
		t.Fatal(err)
	}
	file, _ := pack(t, folderOf(t, "obedient", "1.0.0"), keys+".key")
	dir := t.TempDir()
	if err := unpack(file, dir, maxPackage); err != nil {
		t.Fatal(err)
	}
	grow(t, filepath.Join(dir, ManifestFile))
	if _, err := s.Install(dir, true, nil); err == nil || !strings.Contains(err.Error(), "the package was changed") {
		t.Errorf("got %v", err)
	}
	if _, err := s.Trust("../acme", text); err == nil {
		t.Error("a publisher's name led out of the folder")
	}
}

// An interpreter gets copies of the files that were checked, which nobody changes.
func TestInterpretedConnectorsRunFromACheckedCopy(t *testing.T) {
	p := &Package{Manifest: &Manifest{Run: []string{"sh", "main.sh", "-x"}, Files: map[string]PackageFile{}}, dir: t.TempDir()}
	for name, text := range map[string]string{"main.sh": "exit 0", "lib/more.sh": "true"} {
		file := filepath.Join(p.dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
		p.Files[name] = PackageFile{SHA256: sumOf(t, file), Size: int64(len(text))}
	}
	e := p.Entry("org_1")
	dir := t.TempDir()
	l, err := e.launch(dir)
	if err != nil {
		t.Fatal(err)
	}
	if filepath.Base(l.Path) != "sh" || len(l.Args) != 2 || l.Args[0] != filepath.Join(l.Files, "main.sh") || l.Args[1] != "-x" {
		t.Errorf("it would run %s %v", l.Path, l.Args)
	}
	tamper(t, filepath.Join(p.dir, "lib/more.sh"))
	if b, err := os.ReadFile(filepath.Join(l.Files, "lib/more.sh")); err != nil || string(b) != "true" {
		t.Errorf("the copy changed: %q %v", b, err)
	}
	for _, name := range []string{"", "lib", "main.sh"} {
		if info, err := os.Stat(filepath.Join(l.Files, name)); err != nil || info.Mode()&0o222 != 0 {
			t.Errorf("%q can be written: %v %v", name, info.Mode(), err)
		}
	}
	l.Close()
	if _, err := e.launch(dir); err == nil || !strings.Contains(err.Error(), "is not what the package was installed with") {
		t.Errorf("what was changed would run: %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

// hosting is a supervisor with third parties' connectors only.
func hosting(t testing.TB, log slog.Handler, clock clockwork.Clock, changed func(string)) *Supervisor {
	t.Helper()
	s, err := New(Config{Logger: slog.New(log), Clock: clock, HostVersion: "test", TempDir: shortTempDir(t), Env: []string{"GORACE=atexit_sleep_ms=0"},
		StartTimeout: time.Minute, PingEvery: 50 * time.Millisecond, PingTimeout: 10 * time.Second, BackoffMin: 10 * time.Millisecond, Changed: changed, Sandbox: sandbox.Prefer})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(t.Context()); err != nil && !errors.Is(err, t.Context().Err()) {
			t.Error(err)
		}
	})
	return s
}

func TestEachOrganizationHasAProcessOfItsOwn(t *testing.T) {
	j := newJournal()
	s := hosting(t, j, clockwork.NewRealClock(), nil)
	p := install(t, storeOf(t), "obedient", "1.0.0")
	for _, org := range []string{"org_1", "org_2"} {
		s.Want(org, []Entry{p.Entry(org)})
		j.await(t, "connector started")
	}
	st := s.Stats()
	if len(st) != 2 || st[0].PID == st[1].PID || st[0].Organization != "org_1" || st[0].Digest != p.Digest {
		t.Errorf("%+v", st)
	}
	e := endpoint(1)
	if r := deliverTo(t, s, Key("obedient", p.Digest, "org_1"), e, delivery("dlv_1", "VERSION", e)); r.Error != "1.0.0" {
		t.Errorf("got %+v", r)
	}
	s.Want("org_1", nil)
	if s.Ready(Key("obedient", p.Digest, "org_1")) || !s.Ready(Key("obedient", p.Digest, "org_2")) {
		t.Error("the wrong organization's process was taken away")
	}
	if r := deliverTo(t, s, Key("obedient", p.Digest, "org_1"), e, delivery("dlv_2", "OK", e)); r.Outcome != connectors.Retry || r.Fault != connectors.FaultConnector {
		t.Errorf("got %+v", r)
	}
}

func deliverTo(t testing.TB, s *Supervisor, key string, e connectors.Endpoint, d connectors.Delivery) connectors.Result {
	t.Helper()
	answer := make(chan connectors.Result, 2)
	s.Deliver(key, e, d, func(r connectors.Result) { answer <- r })
	select {
	case r := <-answer:
		return r
	case <-time.After(patience):
		t.Fatalf("no answer to %s; %+v", d.Request.Method, s.Stats())
		return connectors.Result{}
	}
}

// What was tampered with before or after the start does not run, and nobody else's
// deliveries notice.
func TestWhatIsTamperedWithDoesNotRun(t *testing.T) {
	j := newJournal()
	s := hosting(t, j, clockwork.NewRealClock(), nil)
	store := storeOf(t)
	p, other := compiled(t, store, install(t, storeOf(t), "obedient", "1.0.0")), install(t, store, "other")
	s.Want("org_1", []Entry{p.Entry("org_1"), other.Entry("org_1")})
	j.await(t, "connector started")
	j.await(t, "connector started")
	e := endpoint(1)
	key, still := Key("obedient", p.Digest, "org_1"), Key("other", other.Digest, "org_1")
	tamper(t, filepath.Join(p.dir, "connector"))
	if r := deliverTo(t, s, key, e, delivery("dlv_1", "OK", e)); r.Outcome != connectors.Done {
		t.Errorf("what runs is what was checked, whatever is in the folder: %+v", r)
	}
	for _, st := range s.Stats() {
		if st.Name == "obedient" {
			_ = syscall.Kill(st.PID, syscall.SIGKILL)
		}
	}
	j.await(t, "connector is down") // killed
	j.await(t, "connector is down") // refused
	i := slices.IndexFunc(s.Stats(), func(st Stats) bool { return st.Name == "obedient" })
	if st := s.Stats()[i]; st.PID != 0 || !strings.Contains(st.LastError, "is not the program") {
		t.Errorf("%+v", st)
	}
	if r := deliverTo(t, s, still, e, delivery("dlv_2", "OK", e)); r.Outcome != connectors.Done {
		t.Errorf("another connector's delivery: %+v", r)
	}
}

// A process that is not what its package says is not used.
func TestTheManifestIsBinding(t *testing.T) {
	j := newJournal()
	s := hosting(t, j, clockwork.NewRealClock(), nil)
	p := install(t, storeOf(t), "obedient", "1.0.0")
	lie := *p.Manifest
	lie.Settings = json.RawMessage(`{"type":"object","properties":{"a":{}}}`)
	liar := &Package{Manifest: &lie, Digest: p.Digest, dir: p.dir}
	s.Want("org_1", []Entry{liar.Entry("org_1")})
	j.await(t, "connector is down")
	if st := s.Stats()[0]; st.PID != 0 || !strings.Contains(st.LastError, "schema of its settings") {
		t.Errorf("%+v", st)
	}
	lie = *p.Manifest
	lie.Receivers = []plugins.ReceiverInfo{{Kind: "alerts"}}
	if err := liar.agrees(p.About()); err == nil || !strings.Contains(err.Error(), "not those of its manifest") {
		t.Errorf("a manifest with another receiver: %v", err)
	}
}

// Deliveries go on while versions are changed under load, there and back again; each is
// answered once, and none is refused.
func TestUpgradesLoseNothing(t *testing.T) {
	j := newJournal()
	s := hosting(t, j, clockwork.NewRealClock(), nil)
	store := storeOf(t)
	versions := []*Package{install(t, store, "obedient", "1.0.0"), install(t, store, "obedient", "2.0.0")}
	var current atomic.Pointer[Package]
	use := func(p *Package) {
		s.Want("org_1", []Entry{p.Entry("org_1")})
		current.Store(p)
	}
	use(versions[0])
	j.await(t, "connector started")
	var mu sync.Mutex
	answered, by := map[string]int{}, map[string]int{}
	var senders, open sync.WaitGroup
	stop, progress := make(chan struct{}), make(chan struct{}, 1)
	for lane := range 8 {
		senders.Go(func() {
			e := endpoint(lane)
			slots := make(chan struct{}, 32)
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				case slots <- struct{}{}:
				}
				id := fmt.Sprintf("dlv_%d_%d", lane, n)
				open.Add(1)
				s.Deliver(Key("obedient", current.Load().Digest, "org_1"), e, delivery(id, "VERSION", e), func(r connectors.Result) {
					mu.Lock()
					answered[id]++
					if r.Outcome != connectors.Done {
						by["refused: "+r.Error]++
					} else {
						by[r.Error]++
					}
					mu.Unlock()
					select {
					case progress <- struct{}{}:
					default:
					}
					<-slots
					open.Done()
				})
			}
		})
	}
	count := func(version string) int {
		mu.Lock()
		defer mu.Unlock()
		return by[version]
	}
	for i := 1; i <= 4; i++ {
		p := versions[i%2]
		before := count(p.Version)
		use(p)
		for limit := time.After(patience); count(p.Version) < before+500; {
			select {
			case <-progress:
			case <-limit:
				t.Fatalf("version %s delivers nothing: %+v", p.Version, s.Stats())
			}
		}
	}
	close(stop)
	senders.Wait()
	open.Wait()
	for id, n := range answered {
		if n != 1 {
			t.Errorf("%s was answered %d times", id, n)
		}
	}
	// Whoever held a key for longer than the hand-over takes is told so, and asks again.
	for answer := range by {
		if answer != "1.0.0" && answer != "2.0.0" && answer != "refused: "+errReplaced.Error() {
			t.Errorf("%d times: %s", by[answer], answer)
		}
	}
	t.Logf("%d deliveries, by version %v", len(answered), by)
}

// What keeps crashing is left alone until its time is over or somebody lets it out.
func TestQuarantine(t *testing.T) {
	j := newJournal()
	clock := clockwork.NewFakeClock()
	told := make(chan string, 10)
	s := hosting(t, j, clock, func(org string) { told <- org })
	p := install(t, storeOf(t), "obedient", "1.0.0")
	broken := *p.Manifest
	broken.Version = "9.9.9" // which the process is not
	sick := &Package{Manifest: &broken, Digest: p.Digest, dir: p.dir}
	e := sick.Entry("org_1")
	key := Key("obedient", p.Digest, "org_1")
	s.Want("org_1", []Entry{e})
	for i := range neverUp {
		j.await(t, "connector is down")
		if i+1 < neverUp {
			if !s.Ready(key) {
				t.Fatal("in quarantine too early")
			}
			if err := clock.BlockUntilContext(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			clock.Advance(time.Second)
		}
	}
	if org := <-told; org != "org_1" || s.Ready(key) || s.Stats()[0].State != Quarantined {
		t.Errorf("%q %+v", org, s.Stats())
	}
	// Letting it out starts it at once, whatever the clock says.
	e.Released = clock.Now().Add(time.Second)
	s.Want("org_1", []Entry{e})
	j.await(t, "somebody let the connector out of quarantine")
	j.await(t, "connector is down")
	// What is in its place now is well.
	s.Want("org_1", nil)
	s.Want("org_1", []Entry{p.Entry("org_1")})
	j.await(t, "connector started")
	if !s.Ready(key) {
		t.Errorf("%+v", s.Stats())
	}
}

func TestLogsAreKeptWithoutSecrets(t *testing.T) {
	j := newJournal()
	s := hosting(t, j, clockwork.NewRealClock(), nil)
	p := install(t, storeOf(t), "obedient", "1.0.0")
	entry := p.Entry("org_1")
	entry.Redact = strings.NewReplacer("hush-hush", "[secret]")
	s.Want("org_1", []Entry{entry})
	j.await(t, "connector started")
	e := endpoint(1)
	e.Secrets = map[string]string{"token": "hush-hush"}
	key := Key("obedient", p.Digest, "org_1")
	for i := range 3 {
		deliverTo(t, s, key, e, delivery(fmt.Sprint("dlv_", i), "SECRET", e))
	}
	j.await(t, "the token is [secret]")
	var text strings.Builder
	for _, l := range s.Log(key) {
		text.WriteString(l.Text + "\n")
	}
	if !strings.Contains(text.String(), "connector started") || !strings.Contains(text.String(), "the token is [secret] token=[secret]") || strings.Contains(text.String(), "hush") {
		t.Errorf("the log:\n%s", text.String())
	}
	k := &diary{}
	for i := range keptLines + 50 {
		k.add(Line{Text: fmt.Sprint(i)})
	}
	if last := k.last(); len(last) != keptLines || last[0].Text != "50" || last[keptLines-1].Text != fmt.Sprint(keptLines+49) {
		t.Errorf("%d lines are kept, from %q", len(last), last[0].Text)
	}
}

// Kills of third parties' processes leave nothing behind either.
func TestNothingIsLeftOfPackages(t *testing.T) {
	j := newJournal()
	clock := clockwork.NewFakeClock()
	s := hosting(t, j, clock, nil)
	store := storeOf(t)
	dir := folderOf(t, "obedient", "1.0.0")
	if err := os.WriteFile(filepath.Join(dir, "data"), []byte("data"), 0o600); err != nil { // so that there is a copy
		t.Fatal(err)
	}
	file, _ := pack(t, dir, "")
	p, err := store.Install(file, true, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.Want("org_1", []Entry{p.Entry("org_1")})
	var before footprint
	const kills = 50 // and 150 in TestNothingIsLeftAfterManyKills
	for i := range kills {
		j.await(t, "connector started")
		if i == 0 {
			before = settled(t)
		}
		clock.Advance(healthyAfter)
		_ = syscall.Kill(s.Stats()[0].PID, syscall.SIGKILL)
		j.await(t, "connector is down")
		if err := clock.BlockUntilContext(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		clock.Advance(100 * time.Millisecond)
	}
	j.await(t, "connector started")
	if after := settled(t); after.exceeds(before) {
		t.Errorf("before %+v, after %d kills %+v", before, kills, after)
	}
	names := map[string]int{}
	entries, _ := os.ReadDir(s.dir)
	for _, e := range entries {
		names[strings.TrimRight(e.Name(), "0123456789")]++
	}
	for name, n := range names {
		if n > 1 {
			t.Errorf("%d folders %s are left: %v", n, name, slices.Sorted(maps.Keys(names)))
		}
	}
}
