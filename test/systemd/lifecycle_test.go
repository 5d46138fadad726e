//go:build systemd

package systemd_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// times are of the key: a 60th of the defaults, so that its life is over in
// two minutes. Of call_timeout, which bounds a call, a 60th would be less than
// a loaded machine needs.
const (
	times = `refresh = "5s"
rotate = "30s"
hard_age = "1m"
grace = "1m"
confirm = "167ms"
retry_max = "500ms"
retry_revoked = "1s"
credentials_grace = "5s"`

	hardAge = time.Minute
	grace   = time.Minute
)

// TestLifecycle has the agent follow what rsyslog writes and logrotate rotates,
// through all that is done to a service; every line is opened once.
func TestLifecycle(t *testing.T) {
	m := boot(t)
	m.run("dpkg", "-i", deb("sealtail", older), deb("sealtail-reader", older))
	if got := m.sh("stat -c '%U %G %a' /var/lib/sealtail"); got != "sealtail sealtail 700\n" {
		t.Errorf("state directory: got %s", got)
	}
	if got := m.property("ActiveState"); got != "inactive" {
		t.Errorf("after the installation: %s, want inactive", got)
	}
	m.configure("", times)
	m.run("systemctl", "enable", "--now", "sealtail")
	if rated := m.sh("systemd-analyze security --threshold=20 --no-pager sealtail | tail -1"); !strings.Contains(rated, "OK") {
		t.Errorf("exposure: %s", rated)
	}
	l := m.begin()
	m.until("lines", func() bool { return m.count() > 0 })
	for range 3 {
		m.rotate()
	}

	t.Log("reload")
	pid := m.property("MainPID")
	m.run("systemctl", "reload", "sealtail")
	m.until("the reload", func() bool { return m.logged("reloaded") > 0 })
	m.write("/etc/sealtail/sealtail.toml", config("nonsense = 1", times))
	m.run("systemctl", "kill", "-s", "HUP", "--kill-who=main", "sealtail")
	m.until("the refusal", func() bool { return m.logged("nonsense") > 0 })
	if got := m.sh("journalctl -u sealtail -p warning -o cat --no-pager"); !strings.Contains(got, "nonsense") || strings.Contains(got, " INFO ") {
		t.Errorf("warnings in the journal: %s", got)
	}

	t.Log("upgrade that the old configuration does not fit")
	if said := m.run("dpkg", "-i", "--force-confold", deb("sealtail", newer)); !strings.Contains(said, "the old one runs on") {
		t.Errorf("dpkg does not say that it did not restart:\n%s", said)
	}
	if got := m.property("MainPID"); got != pid {
		t.Errorf("process %s, was %s: an upgrade restarted what cannot start", got, pid)
	}
	m.write("/etc/sealtail/sealtail.toml", config("", times))
	m.rotate()

	t.Log("stop with drain")
	m.run("systemctl", "stop", "sealtail")
	if got := m.property("Result"); got != "success" {
		t.Errorf("stopped with %s", got)
	}
	if m.logged(`"unshipped_bytes": 0`) == 0 {
		t.Error("something was not shipped")
	}
	m.run("systemctl", "start", "sealtail")

	t.Log("upgrade under load")
	m.run("dpkg", "-i", "--force-confold", deb("sealtail", older))
	m.until("the other version", func() bool { return strings.Contains(m.sh("sealtail version"), older) && m.logged(older) > 1 })
	m.rotate()
	m.run("dpkg", "-i", "--force-confold", deb("sealtail", newer))
	m.until("the newer version", func() bool { return m.logged(newer) > 1 })
	if got := m.sh("head -n 1 /etc/sealtail/sealtail.toml; tail -n 1 /etc/sealtail/sealtail.toml.dpkg-dist"); !strings.Contains(got, "Changed by the administrator") || !strings.HasSuffix(got, newDefault+"\n") {
		t.Errorf("an upgrade replaced the configuration, or kept its own to itself: %s", got)
	}

	t.Log("watchdog")
	m.write("/etc/systemd/system/sealtail.service.d/watchdog.conf", "[Service]\nWatchdogSec=2s\n")
	m.run("systemctl", "daemon-reload")
	m.run("systemctl", "restart", "sealtail")
	pid = m.property("MainPID")
	m.run("kill", "-STOP", pid)
	m.until("the watchdog", func() bool { return m.property("NRestarts") != "0" && m.property("ActiveState") == "active" })
	if m.logged("Watchdog timeout") == 0 || m.logged("goroutine ") == 0 {
		t.Error("no watchdog, or no dump of goroutines")
	}
	m.rotate()

	m.everyLineOnce(l.end())

	t.Log("removal and purge")
	m.run("systemctl", "start", "sealtail")
	m.run("dpkg", "--remove", "sealtail")
	if got := m.try("systemctl", "is-active", "sealtail"); strings.TrimSpace(got) == "active" {
		t.Error("it runs though it is removed")
	}
	m.sh("test -e /var/lib/sealtail/signing.key -a -e /etc/sealtail/sealtail.toml -a -e /etc/sealtail/keyring.json")
	m.run("dpkg", "--purge", "sealtail")
	m.sh("test ! -e /var/lib/sealtail -a ! -e /etc/sealtail/sealtail.toml -a -e /etc/sealtail/keyring.json -a -d /srv/sealed")
}

// TestPauseAcrossUpgrade takes the key away for longer than a data key may live
// in an outage. Meanwhile files are written, rotated and deleted, the agent is
// restarted and upgraded.
func TestPauseAcrossUpgrade(t *testing.T) {
	m := install(t, "", times)
	m.run("systemctl", "start", "sealtail")
	l := m.begin()
	m.until("lines", func() bool { return m.count() > 0 })
	m.run("sealtail", "keyring", "disable", "-f", "/etc/sealtail/keyring.json")
	m.until("the pause", func() bool { return m.logged("sealing paused") > 0 })
	paused := time.Now()
	m.until("systemd's status to tell it", func() bool { return strings.Contains(m.property("StatusText"), "paused") })
	m.rotate() // what was read before the pause is in this file
	m.pastRestarts(func() {})
	m.until("the data key's life to be over", func() bool { return time.Since(paused) > hardAge+grace })
	m.run("sealtail", "keyring", "enable", "-f", "/etc/sealtail/keyring.json")
	m.rotate()
	m.everyLineOnce(l.end())
}

// TestOutageAcrossUpgrade has the key service fail, then fall silent. Sealing
// goes on under the data key at hand until it is too old, and waits from then
// on, whatever is done to the agent and to its files.
func TestOutageAcrossUpgrade(t *testing.T) {
	m, c := installCloud(t, times)
	m.run("systemctl", "start", "sealtail")
	l := m.begin()
	m.until("lines", func() bool { return m.count() > 0 })
	c.ask("POST", "faults", `{"service": "kms", "status": 503}`)
	out := time.Now()
	m.until("the data key to get old", func() bool { return m.logged("data key not refreshed") > 0 })
	m.rotate()
	sealed := m.status().Sealed.Records
	m.until("sealing to go on", func() bool { return m.status().Sealed.Records > sealed })
	m.until("the pause", func() bool { return m.logged("sealing paused") > 0 })
	// The data key is at most as old as it may get before it is rotated.
	if after := time.Since(out); after < hardAge+grace-36*time.Second {
		t.Errorf("sealing paused after %v of an outage", after)
	}
	m.until("systemd's status to tell it", func() bool { return strings.Contains(m.property("StatusText"), "outage") })
	m.rotate() // what was read before the pause is in this file
	m.pastRestarts(c.silence)
	c.speak()
	if got := m.status().Key; got.State != "init" && got.State != "paused" {
		t.Errorf("a service that fails gave a key: %s", got.State)
	}
	c.ask("DELETE", "faults", "")
	m.rotate()
	m.everyLineOnce(l.end())
}

// pastRestarts rotates files in a pause until those of its beginning are
// deleted, restarts the agent, and upgrades it after between. Files are rotated
// on while it restarts.
func (m *machine) pastRestarts(between func()) {
	m.t.Helper()
	pid := m.property("MainPID")
	waits := func(what, version string) {
		m.t.Helper()
		m.until("the pause of "+what, func() bool {
			return m.property("MainPID") != pid && m.logged(version) > 0 && strings.Contains(m.property("StatusText"), "paused")
		})
		pid = m.property("MainPID")
		m.followed()
	}
	held := strings.TrimSpace(m.sh("stat -c %i /var/log/app/app.log"))
	for range 4 {
		m.rotate()
	}
	if files := m.sh("stat -c %i /var/log/app/*"); strings.Contains(files, held) {
		m.t.Fatalf("inode %s is there still: %s", held, files)
	}
	m.run("systemctl", "restart", "--no-block", "sealtail")
	for range 4 { // while it stops: files are born and deleted
		m.rotate()
	}
	waits("the restarted agent", older)
	for range 3 {
		m.rotate()
	}
	between()
	m.run("dpkg", "-i", "--force-confold", deb("sealtail", newer))
	waits("the newer version", newer)
	for range 3 {
		m.rotate()
	}
	if got := m.property("NRestarts"); got != "0" {
		m.t.Errorf("it was restarted %s times by systemd", got)
	}
}

// TestKillInPause kills the agent while it holds a deleted file. What is in
// systemd's store of descriptors is read; without a store, what only that file
// held is lost, and told to the byte.
func TestKillInPause(t *testing.T) {
	for _, test := range []struct {
		name, unit string
		loses      bool
	}{
		{"with a store", "", false},
		{"without", "FileDescriptorStoreMax=0\n", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := install(t, "", times)
			m.write("/etc/systemd/system/sealtail.service.d/store.conf", "[Service]\n"+test.unit)
			m.run("systemctl", "daemon-reload")
			m.run("systemctl", "start", "sealtail")
			l := m.begin()
			m.until("lines", func() bool { return m.count() > 0 })
			m.run("sealtail", "keyring", "disable", "-f", "/etc/sealtail/keyring.json")
			m.until("the pause", func() bool { return m.logged("sealing paused") > 0 })
			for range 2 { // what was sealed in part is the second before
				m.rotate()
			}
			m.run("mv", "/var/log/app/app.log.2", "/var/log/app/last.log")
			explain := func() string {
				return m.try("sealtail", "explain", "-c", "/etc/sealtail/sealtail.toml", "/var/log/app/last.log")
			}
			m.until("the agent to know its name, and to have that committed", func() bool {
				said := explain()
				return strings.Contains(said, "  position  offset") && !strings.Contains(said, "  path ")
			})
			var size, offset, lag int64
			fmt.Sscan(m.run("stat", "-c", "%s", "/var/log/app/last.log"), &size)
			m.run("rm", "/var/log/app/last.log")
			// A start after this knows of every byte of it.
			m.until("the agent to hold it, and to have that committed", func() bool {
				said := explain()
				_, position, _ := strings.Cut(said, "  position  ")
				fmt.Sscanf(position, "offset %d, lag %d", &offset, &lag)
				return strings.Contains(said, "  held  ") && offset+lag == size && m.status().Files.Held > 0
			})
			if toSeal := m.status().Files.Lag; toSeal < lag {
				t.Errorf("%d bytes are to be sealed, %d of a deleted file alone", toSeal, lag)
			}
			m.run("systemctl", "kill", "-s", "KILL", "sealtail")
			m.until("another start", func() bool { return m.property("NRestarts") == "1" && m.logged("sealing paused") > 1 })
			m.followed()
			m.run("sealtail", "keyring", "enable", "-f", "/etc/sealtail/keyring.json")
			m.rotate()
			n := l.end()
			m.until("all to be read", func() bool {
				s := m.status() // of the last second, so that it may not know what came last
				return s.Key.State == "ready" && s.Files.Lag == 0 && m.has(line(n-1))
			})
			if test.loses {
				m.until("the loss to be told", func() bool { return m.status().Ledger.Lost > 0 })
			}
			told := m.status().Ledger.Lost
			lost := m.lost(n)
			t.Logf("%d bytes lost, %d told", lost, told)
			if lost != told || (lost > 0) != test.loses {
				t.Errorf("%d bytes were lost, the ledger tells %d", lost, told)
			}
		})
	}
}

// TestRPM installs, upgrades and erases the other kind of package. The newer
// one has another configuration.
func TestRPM(t *testing.T) {
	m := boot(t)
	rpm := func(how, name, version string) {
		t.Helper()
		m.run("rpm", how, "--oldpackage", "--nodeps", "--force-debian", "/debs/"+name+"-"+version+"-1.x86_64.rpm")
	}
	rpm("-i", "sealtail", older)
	rpm("-i", "sealtail-reader", older)
	rpm("-U", "sealtail", newer)
	if got := m.sh("tail -n 1 /etc/sealtail/sealtail.toml; ls /etc/sealtail"); got != newDefault+"\nsealtail.toml\n" {
		t.Errorf("an upgrade of an untouched configuration: got %q", got)
	}
	rpm("-U", "sealtail", older)
	m.configure("", times)
	m.run("systemctl", "start", "sealtail")
	l := m.begin()
	m.until("lines", func() bool { return m.count() > 0 })
	rpm("-U", "sealtail", newer)
	m.until("the newer version", func() bool { return m.logged(newer) > 0 })
	if got := m.sh("head -n 1 /etc/sealtail/sealtail.toml; tail -n 1 /etc/sealtail/sealtail.toml.rpmnew"); !strings.Contains(got, "Changed by the administrator") || !strings.HasSuffix(got, newDefault+"\n") {
		t.Errorf("an upgrade replaced the configuration, or kept its own to itself: %s", got)
	}
	m.everyLineOnce(l.end())
	m.run("systemctl", "start", "sealtail")
	m.run("rpm", "-e", "--nodeps", "--force-debian", "sealtail")
	m.sh("test -d /var/lib/sealtail/streams -a -e /etc/sealtail/keyring.json -a -e /etc/sealtail/sealtail.toml.rpmsave -a ! -e /usr/bin/sealtail")
}

// TestDropIns reads what others own, without and with each drop-in.
func TestDropIns(t *testing.T) {
	m := install(t, "", times)
	m.sh(`cd /var/log/app
		echo 'of adm' >adm.log; chgrp adm adm.log; chmod 0640 adm.log
		echo 'of root' >root.log; chmod 0600 root.log
		echo 'of another' >other.log; chown daemon:daemon other.log; chmod 0600 other.log`)
	for _, test := range []struct{ dropin, want string }{
		{"", "of adm"},
		{"read-root-logs.conf", "of adm,of root"},
		{"read-all-logs.conf", "of adm,of root,of another"},
	} {
		m.sh("mkdir -p /etc/systemd/system/sealtail.service.d; rm -f /etc/systemd/system/sealtail.service.d/*")
		if test.dropin != "" {
			m.run("cp", "/usr/share/sealtail/systemd/"+test.dropin, "/etc/systemd/system/sealtail.service.d/")
		}
		m.run("systemctl", "daemon-reload")
		m.run("systemctl", "restart", "sealtail")
		want := strings.Split(test.want, ",")
		m.until(fmt.Sprintf("%q with drop-in %q", test.want, test.dropin), func() bool { return m.count() >= len(want) })
		m.run("systemctl", "stop", "sealtail")
		if got := m.opened(); len(got) != len(want) {
			t.Errorf("drop-in %q: got %q, want %q", test.dropin, got, want)
		}
	}
}

// TestCredentials has systemd give an access key to the service alone: in the
// clear from /etc/credstore, and encrypted.
func TestCredentials(t *testing.T) {
	m := install(t, "", times)
	m.run("systemctl", "start", "sealtail")
	if got := m.sh("ls /run/credentials/sealtail.service"); got != "" {
		t.Errorf("without any: got %q", got)
	}
	m.sh(`install -d -m 0700 /etc/credstore
		printf plain-id >/etc/credstore/sealtail.access-key-id; printf plain-secret >/etc/credstore/sealtail.access-key-secret
		chmod 0600 /etc/credstore/*
		systemctl restart sealtail`)
	if got := m.sh("cd /run/credentials/sealtail.service; cat access-key-id access-key-secret"); got != "plain-idplain-secret" {
		t.Errorf("from /etc/credstore: got %q", got)
	}
	m.sh(`install -d -m 0700 /etc/credstore.encrypted
		printf sealed-id | systemd-creds encrypt --with-key=host --name=access-key-id - /etc/credstore.encrypted/sealtail.access-key-id
		printf sealed-secret | systemd-creds encrypt --with-key=host --name=access-key-secret - /etc/credstore.encrypted/sealtail.access-key-secret
		mkdir -p /etc/systemd/system/sealtail.service.d
		cp /usr/share/sealtail/systemd/encrypted-credentials.conf /etc/systemd/system/sealtail.service.d/
		systemctl daemon-reload; systemctl restart sealtail`)
	if got := m.sh("cd /run/credentials/sealtail.service; stat -c '%U %a' access-key-id; cat access-key-id access-key-secret"); got != "sealtail 400\nsealed-idsealed-secret" {
		t.Errorf("encrypted: got %q", got)
	}
}
