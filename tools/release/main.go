// Release builds what a release of sealtail is, bit for bit the same from the
// same commit, wherever it is built: the programs, packages, a container
// image, bills of materials, and the check sums of all that.
//
//	release [-out DIR] [-version V] [-arch ARCH] [-sign KEY] [-maintainer "NAME <ADDRESS>"] [packages] [image]
//
// With words after the flags it builds that alone, and no check sums; with
// -arch for that architecture alone, which has to be this machine's for
// packages. All of a release is made only for a maintainer who can be reached:
// packages name who it is.
//
// The version is that of the tag of the commit, v1.2.3; without one it is told
// from the commit. Times are those of the commit, or SOURCE_DATE_EPOCH. KEY is
// a private key of SSH; ssh-keygen signs the check sums with it, for the
// namespace "sealtail".
package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"net/mail"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

func main() {
	r := release{arches: []string{"amd64", "arm64"}}
	flag.StringVar(&r.out, "out", "../dist", "directory to write to; what is there of an earlier run is replaced")
	flag.StringVar(&r.version, "version", "", "version (default: told from the commit)")
	flag.Func("arch", "architecture to build for (default: all)", func(arch string) error {
		r.arches = []string{arch}
		return nil
	})
	flag.StringVar(&r.maintainer, "maintainer", "", "who answers for the packages, as NAME <ADDRESS>")
	key := flag.String("sign", "", "private key of SSH to sign the check sums with")
	flag.Parse()
	for _, word := range flag.Args() {
		if word != "packages" && word != "image" {
			fmt.Fprintf(os.Stderr, "release: error: what is %q? It builds packages or image\n", word)
			os.Exit(64)
		}
	}
	if err := r.run(flag.Args(), *key); err != nil {
		fmt.Fprintln(os.Stderr, "release: error:", err)
		os.Exit(1)
	}
}

// A release is one in the making.
type release struct {
	root    string   // of the repository
	arches  []string // in Go's names
	out     string
	version string
	date    time.Time
	stage   string   // directory of what goes into packages and image
	made    []string // names in out

	maintainer string // NAME <ADDRESS>
}

// nobody is the maintainer of packages that are not released.
const nobody = "The sealtail authors <sealtail@localhost>"

// reachable returns an error unless a maintainer has a name and an address that
// means the same everywhere.
func reachable(maintainer string) error {
	a, err := mail.ParseAddress(maintainer)
	if err != nil {
		return fmt.Errorf("maintainer %q: %w: a release needs one, make release MAINTAINER='NAME <ADDRESS>'", maintainer, err)
	}
	_, host, _ := strings.Cut(a.Address, "@")
	if a.Name == "" || !strings.Contains(host, ".") || strings.ContainsAny(maintainer, "\r\n") {
		return fmt.Errorf("maintainer %q: want NAME <ADDRESS>, with an address outside of this host", maintainer)
	}
	return nil
}

func (r *release) run(only []string, key string) (err error) {
	switch {
	case len(only) == 0 || r.maintainer != "":
		if err := reachable(r.maintainer); err != nil {
			return err
		}
	default:
		r.maintainer = nobody
	}
	if err := r.resolve(); err != nil {
		return err
	}
	if r.stage, err = os.MkdirTemp("", "sealtail-release"); err != nil {
		return err
	}
	defer os.RemoveAll(r.stage)
	wants := func(word string) bool { return len(only) == 0 || slices.Contains(only, word) }

	if err := r.programs(); err != nil {
		return err
	}
	if wants("packages") {
		if err := r.documents(); err != nil {
			return err
		}
		if err := r.packages(); err != nil {
			return err
		}
	}
	if wants("image") {
		if err := r.image(); err != nil {
			return err
		}
	}
	if len(only) == 0 {
		if err := r.archives(); err != nil {
			return err
		}
		if err := r.sums(key); err != nil {
			return err
		}
	}
	for _, name := range r.made {
		fmt.Println(filepath.Join(r.out, name))
	}
	return nil
}

// resolve finds out what was not given.
func (r *release) resolve() (err error) {
	if r.root == "" {
		if r.root, err = filepath.Abs(".."); err != nil {
			return err
		}
	}
	if r.out, err = filepath.Abs(r.out); err != nil {
		return err
	}
	if err := os.MkdirAll(r.out, 0o755); err != nil {
		return err
	}
	if r.date.IsZero() {
		epoch := os.Getenv("SOURCE_DATE_EPOCH")
		if epoch == "" {
			if epoch, err = r.git("log", "-1", "--format=%ct"); err != nil {
				return err
			}
		}
		seconds, err := strconv.ParseInt(epoch, 10, 64)
		if err != nil {
			return fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
		}
		r.date = time.Unix(seconds, 0).UTC()
	}
	if r.version == "" {
		r.version, err = r.describe()
	}
	return err
}

// describe returns 1.2.3 for a commit with the tag v1.2.3, 1.2.3~rc.1 for
// v1.2.3-rc.1, else a version that sorts below all of these and by date.
func (r *release) describe() (string, error) {
	if tag, err := r.git("describe", "--tags", "--exact-match", "--match", "v[0-9]*"); err == nil {
		return strings.Replace(strings.TrimPrefix(tag, "v"), "-", "~", 1), nil
	}
	commit, err := r.git("rev-parse", "--short=12", "HEAD")
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("0~git%s.%s", r.date.Format("20060102150405"), commit), nil
}

func (r *release) git(args ...string) (string, error) {
	cmd := exec.Command("git", args...)
	cmd.Dir = r.root
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w", args[0], err)
	}
	return strings.TrimSpace(string(out)), nil
}

// programs builds those of every architecture into the stage.
func (r *release) programs() error {
	for _, arch := range r.arches {
		for name, pkg := range map[string]string{"sealtail": "./cmd/agent", "sealtail-reader": "./cmd/reader"} {
			if err := build(r.root, arch, pkg, r.version, filepath.Join(r.stage, arch, name), ""); err != nil {
				return err
			}
		}
	}
	return nil
}

// build compiles a package of the module in root, with nothing of this
// machine's environment in it. An empty cache is the usual one.
func build(root, arch, pkg, version, to, cache string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-mod=readonly",
		"-ldflags", "-s -w -buildid= -X main.release="+version, "-o", to, pkg)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch, "GOAMD64=v1", "GOARM64=v8.0",
		"GOFLAGS=", "GOWORK=off", "GOEXPERIMENT=", "GOFIPS140=off")
	if cache != "" {
		cmd.Env = append(cmd.Env, "GOCACHE="+cache)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s for %s: %w\n%s", pkg, arch, err, out)
	}
	return nil
}

// put writes a file into out.
func (r *release) put(name string, data []byte) error {
	r.made = append(r.made, name)
	return os.WriteFile(filepath.Join(r.out, name), data, 0o644)
}

// sums writes SHA256SUMS of all that was made, and signs it.
func (r *release) sums(key string) error {
	var b bytes.Buffer
	slices.Sort(r.made)
	for _, name := range r.made {
		data, err := os.ReadFile(filepath.Join(r.out, name))
		if err != nil {
			return err
		}
		sum := sha256.Sum256(data)
		fmt.Fprintf(&b, "%s  %s\n", hex.EncodeToString(sum[:]), name)
	}
	if err := r.put("SHA256SUMS", b.Bytes()); err != nil || key == "" {
		return err
	}
	signature := filepath.Join(r.out, "SHA256SUMS.sig")
	if err := os.Remove(signature); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	sign := exec.Command("ssh-keygen", "-Y", "sign", "-q", "-f", key, "-n", "sealtail", filepath.Join(r.out, "SHA256SUMS"))
	if out, err := sign.CombinedOutput(); err != nil {
		return fmt.Errorf("sign SHA256SUMS: %w\n%s", err, out)
	}
	r.made = append(r.made, "SHA256SUMS.sig")
	return nil
}
