//go:build systemd

// Package systemd_test installs the packages on a Debian machine that
// systemd-nspawn boots, and treats the agent as systemd, dpkg, rpm, rsyslog and
// logrotate do. Each test has a machine of its own, which forgets everything.
//
// It needs root, and mmdebstrap and systemd-container of Debian. The machine's
// root is made once and kept in bin/machine.
package systemd_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	root     = "../../bin/machine"
	packages = "systemd,systemd-sysv,dbus,procps,logrotate,rsyslog,rpm"
)

// patience bounds what is waited for: it only ends what would never end.
const patience = 5 * time.Minute

// masked are units that wait for what is not there.
var masked = []string{
	"systemd-networkd-wait-online.service", "systemd-networkd.service", "systemd-networkd.socket", "systemd-firstboot.service",
	"apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_reap.service", "getty@.service", "console-getty.service",
}

// debs is the directory of the packages of two versions.
var debs string

const older, newer = "1.0.0", "1.1.0"

func TestMain(m *testing.M) {
	os.Exit(func() int {
		err := makeRoot()
		if err == nil {
			debs, err = os.MkdirTemp("", "sealtail-packages")
		}
		if err == nil {
			defer os.RemoveAll(debs)
			err = command("go", "build", "-o", filepath.Join(debs, "sealtail-emulator"), "../../cmd/emulator")
		}
		if err == nil {
			err = makePackages("../..", older)
			if err == nil {
				err = makeNewer()
			}
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

func makePackages(source, version string) error {
	return command("go", "-C", source+"/tools", "run", "./release", "-out", debs, "-version", version, "-arch", "amd64", "packages")
}

// newDefault is a line of the configuration that the newer packages have.
const newDefault = "# The newer version's default."

// makeNewer makes packages of a copy of the source whose configuration has
// changed: only then an upgrade has to choose.
func makeNewer() error {
	dir, err := os.MkdirTemp("", "sealtail-newer")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	// What is not committed is copied, too; the date is the last commit's.
	if err := command("sh", "-c", `cd ../.. && git ls-files -z --cached --others --exclude-standard | tar -c --null --ignore-failed-read -T - | tar -x -C "$1"`, "sh", dir); err != nil {
		return err
	}
	config, err := os.OpenFile(filepath.Join(dir, "packaging/sealtail.toml"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer config.Close()
	if _, err := fmt.Fprintln(config, newDefault); err != nil {
		return err
	}
	date, err := exec.Command("git", "log", "-1", "--format=%ct").Output()
	if err != nil {
		return err
	}
	os.Setenv("SOURCE_DATE_EPOCH", strings.TrimSpace(string(date)))
	return makePackages(dir, newer)
}

func command(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

// makeRoot makes the root of machines, if it is not there.
func makeRoot() error {
	if _, err := os.Stat(root); err == nil {
		return nil
	}
	half := root + ".new"
	if err := os.RemoveAll(half); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(half), 0o755); err != nil {
		return err
	}
	if err := command("mmdebstrap", "--variant=minbase", "--include="+packages, "bookworm", half); err != nil {
		return err
	}
	for _, unit := range masked {
		if err := os.Symlink("/dev/null", filepath.Join(half, "etc/systemd/system", unit)); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(half, "etc/hostname"), []byte("machine\n"), 0o644); err != nil {
		return err
	}
	return os.Rename(half, root)
}

// A machine is one that runs.
type machine struct {
	t      *testing.T
	leader string   // process id of its systemd
	sealed []string // arguments by which the reader finds and opens what is sealed
}

// apart runs a command in control groups of its own below this process's: two
// systemds in the same would take each other's services for theirs.
const apart = `name=$1; shift
while IFS=: read -r _ controllers path; do
	case $controllers in
	name=systemd) root=/sys/fs/cgroup/systemd ;;
	"") root=/sys/fs/cgroup/unified; [ -d $root ] || root=/sys/fs/cgroup ;;
	*) continue ;;
	esac
	mkdir "$root$path/$name" && echo $$ >"$root$path/$name/cgroup.procs"
done </proc/self/cgroup
exec "$@"`

// removeGroups removes the control groups of a machine that has ended.
func removeGroups(name string) {
	for _, root := range []string{"/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"} {
		var groups []string
		filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() && strings.Contains(path, name) {
				groups = append(groups, path)
			}
			return nil
		})
		for _, group := range slices.Backward(groups) {
			os.Remove(group)
		}
	}
}

// boot starts a machine, beside those of other tests. It skips the test where
// this system allows none.
func boot(t *testing.T) *machine {
	t.Helper()
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	var said bytes.Buffer
	name := fmt.Sprintf("sealtail-%d", time.Now().UnixNano())
	nspawn := exec.Command("sh", "-c", apart, "sh", name, "systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--machine", name,
		"--capability=CAP_IPC_LOCK", // without it mlock is not even allowed to users with a limit
		"--read-only",               // of the root itself, which others use too
		"--volatile=overlay", "--directory", root, "--bind-ro="+debs+":/debs", "--private-network", "--console=pipe", "--boot", "systemd.show_status=0")
	nspawn.Stdout, nspawn.Stderr = &said, &said
	if err := nspawn.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- nspawn.Wait() }()
	m := &machine{t: t, sealed: []string{"--dir", "/srv/sealed", "--keyring", "/root/offline.json"}}
	t.Cleanup(func() {
		if m.leader != "" {
			if t.Failed() {
				t.Logf("the agent's journal:\n%s", m.try("journalctl", "-u", "sealtail", "--no-pager", "-o", "cat", "-n", "60"))
			}
			var pid int
			fmt.Sscan(m.leader, &pid)
			syscall.Kill(pid, syscall.SIGKILL)
		} else {
			nspawn.Process.Kill()
		}
		<-ended
		removeGroups(name)
	})
	children := fmt.Sprintf("/proc/%d/task/%d/children", nspawn.Process.Pid, nspawn.Process.Pid)
	deadline := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			ended <- err
			for _, denied := range []string{"Operation not permitted", "Permission denied", "not supported", "Read-only file system"} {
				if strings.Contains(said.String(), denied) {
					t.Skipf("this kernel forbids systemd-nspawn: %s", said.String())
				}
			}
			t.Fatalf("systemd-nspawn: %v\n%s", err, said.String())
		case <-deadline:
			t.Fatal("the machine does not boot")
		case <-tick.C:
		}
		b, _ := os.ReadFile(children)
		if m.leader = strings.TrimSpace(string(b)); m.leader == "" {
			continue
		}
		if state := m.try("systemctl", "is-system-running"); strings.HasPrefix(state, "running") || strings.HasPrefix(state, "degraded") {
			return m
		}
	}
}

// in returns a command that is run in the machine.
func (m *machine) in(name string, args ...string) *exec.Cmd {
	cmd := exec.Command("nsenter", append([]string{"-t", m.leader, "-m", "-u", "-i", "-n", "-p", "-C", "--wdns=/", name}, args...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"}
	return cmd
}

// try runs a command and returns what it prints, whether it succeeds or not.
func (m *machine) try(name string, args ...string) string {
	out, _ := m.in(name, args...).CombinedOutput()
	return string(out)
}

// run runs a command that has to succeed and returns what it prints.
func (m *machine) run(name string, args ...string) string {
	m.t.Helper()
	out, err := m.in(name, args...).CombinedOutput()
	if err != nil {
		m.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// sh runs a shell's script that has to succeed.
func (m *machine) sh(script string) string {
	m.t.Helper()
	return m.run("sh", "-ec", script)
}

// write writes a file in the machine.
func (m *machine) write(name, text string) {
	m.t.Helper()
	cmd := m.in("sh", "-ec", `mkdir -p "${1%/*}"; cat >"$1"`, "sh", name)
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		m.t.Fatalf("write %s: %v\n%s", name, err, out)
	}
}

// until waits for what happens in the machine.
func (m *machine) until(what string, done func() bool) {
	m.t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			m.t.Fatalf("waited %s for %s", patience, what)
		}
	}
}

// logged counts the lines of the agent's journal that contain text.
func (m *machine) logged(text string) int {
	return strings.Count(m.try("journalctl", "-u", "sealtail", "--no-pager", "-o", "cat"), text)
}

// property returns one of the agent's unit.
func (m *machine) property(name string) string {
	m.t.Helper()
	return strings.TrimSpace(m.run("systemctl", "show", "-p", name, "--value", "sealtail"))
}

// A stream is what sealtail status says of one.
type stream struct {
	Files struct {
		Held int64 `json:"held_bytes"`
		Lag  int64 `json:"lag_bytes"`
	}
	Ledger struct {
		Lost int64 `json:"lost_bytes"`
	}
	Key    struct{ State string }
	Sealed struct{ Records int64 }
}

// status returns how the stream stands, nothing if the agent does not say.
func (m *machine) status() stream {
	m.t.Helper()
	var s struct{ Streams []stream }
	out, _ := m.in("sealtail", "status", "-c", "/etc/sealtail/sealtail.toml", "--json").Output() // fails in a pause, too
	if json.Unmarshal(out, &s) != nil || len(s.Streams) != 1 {
		return stream{}
	}
	return s.Streams[0]
}

func deb(name, version string) string { return "/debs/" + name + "_" + version + "_amd64.deb" }

// install installs and configures the older version. Lines of stream are added
// to the table of the stream, lines of key to the key's.
func install(t *testing.T, stream, key string) *machine {
	t.Helper()
	m := boot(t)
	m.run("dpkg", "-i", deb("sealtail", older), deb("sealtail-reader", older))
	m.configure(stream, key)
	return m
}

func (m *machine) configure(stream, key string) {
	m.t.Helper()
	m.sh(`sealtail keyring new -f /root/offline.json --kind hpke-mlkem768-x25519 >/dev/null
		sealtail keyring export-public -f /root/offline.json --out /etc/sealtail/keyring.json
		chown root:sealtail /etc/sealtail/keyring.json; chmod 0640 /etc/sealtail/keyring.json
		install -d -o sealtail -g sealtail -m 0700 /srv/sealed
		install -d -o root -g adm -m 0750 /var/log/app`)
	m.write("/etc/sealtail/sealtail.toml", config(stream, key))
	m.sh("setpriv --reuid sealtail --regid sealtail --clear-groups sealtail identity -c /etc/sealtail/sealtail.toml >/root/signers")
}

func config(stream, key string) string {
	return fmt.Sprintf(`# Changed by the administrator.
[key.main]
provider = "keyring"
file = "/etc/sealtail/keyring.json"
%s

[sink.archive]
type = "dir"
path = "/srv/sealed"
max_bytes = "1MiB"

[[stream]]
name = "app"
include = ["/var/log/app/*.log"]
suite = "aes-256-gcm"
key = "main"
sink = "archive"
%s
`, key, stream)
}

// opened returns the lines that the reader opens, the chain being whole.
func (m *machine) opened() []string {
	m.t.Helper()
	cmd := m.in("sealtail-reader", append([]string{"open", "--signers", "/root/signers"}, m.sealed...)...)
	var findings bytes.Buffer
	cmd.Stderr = &findings
	out, err := cmd.Output()
	if err != nil {
		m.t.Errorf("sealtail-reader open: %v\n%s", err, findings.String())
	}
	if len(out) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
}

// count returns how many lines can be opened so far.
func (m *machine) count() int { return m.opens("wc -l") }

// has reports whether a line can be opened so far.
func (m *machine) has(line string) bool { return m.opens("grep -cxF '"+line+"'") > 0 }

// opens returns what a command counts in the lines that can be opened so far.
func (m *machine) opens(count string) (n int) {
	fmt.Sscan(m.try("sh", append([]string{"-c", `sealtail-reader open "$@" 2>/dev/null | ` + count, "sh"}, m.sealed...)...), &n)
	return n
}

// A load is lines that syslog takes, which rsyslog writes to a file.
type load struct {
	m    *machine
	stop chan bool
	sent chan int
}

const rsyslog = `
module(load="imtcp")
template(name="bare" type="string" string="%msg%\n")
ruleset(name="app") {
	action(type="omfile" file="/var/log/app/app.log" fileOwner="root" fileGroup="adm" fileCreateMode="0640" template="bare")
}
input(type="imtcp" port="5514" ruleset="app")
`

const logrotate = `
/var/log/app/*.log {
	rotate 2
	missingok
	create 0640 root adm
	postrotate
		/usr/lib/rsyslog/rsyslog-rotate
	endscript
}
`

// begin has rsyslog write numbered lines until the load ends.
func (m *machine) begin() *load {
	m.t.Helper()
	m.write("/etc/rsyslog.d/app.conf", rsyslog)
	m.write("/etc/logrotate.d/app", logrotate)
	m.run("systemctl", "restart", "rsyslog")
	l := &load{m, make(chan bool), make(chan int, 1)}
	logger := m.in("logger", "--server", "127.0.0.1", "--tcp", "--port", "5514", "--octet-count", "--rfc5424=notime,notq,nohost", "--tag", "app")
	in, err := logger.StdinPipe()
	if err != nil {
		m.t.Fatal(err)
	}
	if err := logger.Start(); err != nil {
		m.t.Fatal(err)
	}
	go func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		n := 0
		for going := true; going; {
			select {
			case <-tick.C:
				for range 20 {
					fmt.Fprintln(in, line(n))
					n++
				}
			case <-l.stop:
				going = false
			}
		}
		in.Close()
		logger.Wait()
		l.sent <- n
	}()
	return l
}

// end stops the load and returns how many lines it had.
func (l *load) end() int {
	close(l.stop)
	return <-l.sent
}

// rotate has logrotate rotate the files, as time would, and waits until the new
// one is written to and the agent, if it runs, has it open: a file lives longer
// than a moment.
func (m *machine) rotate() {
	m.t.Helper()
	before := strings.TrimSpace(m.sh("stat -c %i /var/log/app/app.log"))
	m.run("logrotate", "-f", "/etc/logrotate.d/app")
	m.until("rsyslog and the agent to take the new file", func() bool {
		return m.in("sh", "-ec", `set -- "$1" $(stat -c '%i %s' /var/log/app/app.log) $(systemctl show -p MainPID --value sealtail)
			[ "$1" != "$2" ] && [ "$3" -gt 0 ]
			[ "$4" -eq 0 ] || stat -L -c %i /proc/"$4"/fd/* 2>/dev/null | grep -qx "$2"`, "sh", before).Run() == nil
	})
}

// followed waits until the agent has every file open, as it has in a pause: what
// is deleted before that is lost.
func (m *machine) followed() {
	m.t.Helper()
	m.until("the agent to open the files", func() bool {
		return m.in("sh", "-ec", `pid=$(systemctl show -p MainPID --value sealtail)
			open=" $(stat -L -c %i /proc/"$pid"/fd/* 2>/dev/null | tr '\n' ' ')"
			for i in $(stat -c %i /var/log/app/*); do case $open in *" $i "*) ;; *) exit 1 ;; esac; done`).Run() == nil
	})
}

// everyLineOnce compares what was opened with the first n lines of a load.
func (m *machine) everyLineOnce(n int) {
	m.t.Helper()
	m.until(fmt.Sprintf("%d lines to be sealed", n), func() bool { return m.count() >= n })
	if lost := m.lost(n); lost > 0 {
		m.t.Errorf("%d bytes were lost", lost)
	}
}

// lost stops the agent and returns how many bytes of the first n lines of a load
// cannot be opened. None may be opened twice.
func (m *machine) lost(n int) (bytes int64) {
	m.t.Helper()
	m.run("systemctl", "stop", "sealtail")
	if m.logged(`"locked": false`) > 0 {
		m.t.Error("a data key was not in locked memory")
	}
	times, foreign, repeated := make([]int, n), 0, 0
	for _, l := range m.opened() {
		var i int
		if _, err := fmt.Sscanf(l, "line %d", &i); err != nil || i >= n || l != line(i) {
			if foreign++; foreign == 1 {
				m.t.Errorf("opened what was not written: %q", l)
			}
			continue
		}
		times[i]++
	}
	opened := 0
	for i, got := range times {
		switch {
		case got == 0:
			if i == 0 || times[i-1] > 0 {
				m.t.Logf("not opened from line %d on; it is in: %s", i, m.try("grep", "-lxF", line(i), "-r", "/var/log/app"))
			}
			bytes += int64(len(line(i)) + 1)
		case got > 1:
			repeated++
		default:
			opened++
		}
	}
	if repeated > 0 {
		m.t.Errorf("of %d lines %d were opened more than once", n, repeated)
	}
	m.t.Logf("of %d lines %d were opened once", n, opened)
	return bytes
}

// line is the i-th line of a load.
func line(i int) string { return fmt.Sprintf("line %08d %s.", i, strings.Repeat("lorem ipsum ", i%17)) }
