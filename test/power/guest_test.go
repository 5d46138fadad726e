package power_test

import (
	"bufio"
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// command runs a program of the host and returns what it prints.
func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	var stderr bytes.Buffer
	c := exec.Command(name, args...)
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, &stderr)
	}
	return string(out)
}

// build makes a static binary of a package.
func build(t *testing.T, dir, pkg, to string) {
	t.Helper()
	c := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", to, pkg)
	c.Dir, c.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, out)
	}
}

// A kernel is a Debian package, unpacked: its boot image and the modules of a
// virtio disk, in the order they need each other.
type kernel struct {
	image   string
	modules []string
}

func unpackKernel(t *testing.T, dir string) (k kernel) {
	t.Helper()
	deps := command(t, "apt-cache", "depends", "linux-image-cloud-amd64")
	_, name, ok := strings.Cut(deps, "Depends: ")
	if !ok {
		t.Fatalf("no kernel in %q: apt-get update", deps)
	}
	name, _, _ = strings.Cut(name, "\n")
	get := exec.Command("apt-get", "download", "-q", name)
	get.Dir = dir
	if out, err := get.CombinedOutput(); err != nil {
		t.Fatalf("download %s: %v\n%s", name, err, out)
	}
	command(t, "sh", "-c", "dpkg -x "+dir+"/linux-image-*.deb "+dir+"/kernel")
	images, _ := filepath.Glob(dir + "/kernel/boot/vmlinuz-*")
	if len(images) != 1 {
		t.Fatalf("kernels: %q", images)
	}
	k.image = images[0]
	files := make(map[string]string)
	err := filepath.WalkDir(dir+"/kernel/lib/modules", func(path string, d fs.DirEntry, err error) error {
		if name, ok := strings.CutSuffix(filepath.Base(path), ".ko"); ok {
			files[strings.ReplaceAll(name, "-", "_")] = path
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	var add func(name string)
	add = func(name string) {
		path := files[name]
		if path == "" || seen[name] {
			return // built in, or there already
		}
		seen[name] = true
		for _, d := range depends(t, path) {
			add(strings.ReplaceAll(d, "-", "_"))
		}
		k.modules = append(k.modules, path)
	}
	add("virtio_pci")
	add("virtio_blk")
	add("ext4")
	return k
}

// depends reads which modules a module needs.
func depends(t *testing.T, path string) []string {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Section(".modinfo").Data()
	if err != nil {
		t.Fatal(err)
	}
	for _, field := range bytes.Split(info, []byte{0}) {
		if list, ok := bytes.CutPrefix(field, []byte("depends=")); ok && len(list) > 0 {
			return strings.Split(string(list), ",")
		}
	}
	return nil
}

// initramfs packs the guest: name → file of the host.
func initramfs(t *testing.T, to string, files map[string]string) {
	t.Helper()
	root := t.TempDir()
	for _, dir := range []string{"dev", "proc", "sys", "data", "etc", "modules"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, from := range files {
		command(t, "cp", from, filepath.Join(root, name))
	}
	command(t, "sh", "-c", "cd "+root+" && find . | cpio --quiet -o -H newc -R 0:0 | gzip -1 > "+to)
}

// A machine is QEMU with one disk whose every request is logged.
type machine struct {
	kernel            kernel
	initrd, disk, log string
}

// run boots the machine and hands each line of its console to said, which
// returns false to pull the plug: kill -9. It returns what the console had.
func (m machine) run(t *testing.T, boot string, said func(line string) bool) (console string) {
	t.Helper()
	if err := os.WriteFile(m.log, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	qemu := exec.CommandContext(ctx, "qemu-system-x86_64", "-M", "q35", "-accel", "tcg,thread=multi",
		"-cpu", "max", "-m", "768", "-smp", "2", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio",
		"-kernel", m.kernel.image, "-initrd", m.initrd, "-append", "console=ttyS0 quiet panic=-1 reboot=t boot="+boot,
		"-blockdev", "driver=file,node-name=file,filename="+m.disk,
		"-blockdev", "driver=file,node-name=requests,filename="+m.log,
		"-blockdev", "driver=blklogwrites,node-name=disk,file=file,log=requests",
		"-device", "virtio-blk-pci,drive=disk,write-cache=on")
	out, err := qemu.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr, all bytes.Buffer
	qemu.Stderr = &stderr
	if err := qemu.Start(); err != nil {
		t.Fatal(err)
	}
	pulled := false
	for lines := bufio.NewScanner(out); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		fmt.Fprintln(&all, line)
		if !pulled && !said(line) {
			pulled = true
			cancel()
		}
	}
	err = qemu.Wait()
	if exit := new(exec.ExitError); err != nil && !(pulled && errors.As(err, &exit)) {
		t.Fatalf("qemu: %v\n%s\n%s", err, &stderr, &all)
	}
	return all.String()
}

// mount gives a look at a copy of a disk: its journal is replayed there.
func mount(t *testing.T, disk string, look func(root string)) {
	t.Helper()
	dir := t.TempDir()
	image, root := filepath.Join(dir, "disk"), filepath.Join(dir, "root")
	if err := copySparse(image, disk); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	command(t, "mount", "-o", "loop", image, root)
	defer command(t, "umount", root)
	look(root)
}
