// Package chart_test renders the Helm chart as Helm does, and holds what comes
// out against the types of Kubernetes, the configuration of sealtail and the
// plain manifests.
package chart_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/lint/support"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"

	"sealtail/conf"
)

var update = flag.Bool("update", false, "write the plain manifests anew")

const (
	chartDir  = "../../packaging/helm/sealtail"
	plainDir  = "../../packaging/kubernetes"
	plainFile = plainDir + "/sealtail.yaml"
	agentFile = "sealtail.toml"
)

// values reads a file of values and lays those of set over it.
func values(t *testing.T, file, set string) map[string]any {
	t.Helper()
	v := make(map[string]any)
	if file != "" {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.Unmarshal(b, &v); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
	}
	over := make(map[string]any)
	if err := yaml.Unmarshal([]byte(set), &over); err != nil {
		t.Fatal(err)
	}
	return chartutil.CoalesceTables(over, v)
}

// render is helm template, with the notes.
func render(t *testing.T, namespace string, v map[string]any) (manifest, notes string, err error) {
	t.Helper()
	c, err := loader.Load(chartDir)
	if err != nil {
		t.Fatal(err)
	}
	install := action.NewInstall(new(action.Configuration))
	install.ReleaseName, install.Namespace = "sealtail", namespace
	install.DryRun, install.ClientOnly, install.Replace = true, true, true
	install.KubeVersion = &chartutil.KubeVersion{Version: "v1.34.4", Major: "1", Minor: "34"}
	r, err := install.Run(c, v)
	if err != nil {
		return "", "", err
	}
	return strings.TrimLeft(r.Manifest, "\n"), r.Info.Notes, nil
}

// decode refuses what the types of Kubernetes do not know.
func decode(t *testing.T, manifest string) (objects []runtime.Object) {
	t.Helper()
	strict := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	for _, doc := range strings.Split("\n"+manifest, "\n---\n") {
		if strings.TrimSpace(doc) == "" {
			continue
		}
		o, _, err := strict.Decode([]byte(doc), nil, nil)
		if err != nil {
			t.Fatalf("%v in\n%s", err, doc)
		}
		objects = append(objects, o)
	}
	return objects
}

func one[T runtime.Object](t *testing.T, objects []runtime.Object) T {
	t.Helper()
	var found []T
	for _, o := range objects {
		if o, ok := o.(T); ok {
			found = append(found, o)
		}
	}
	if len(found) != 1 {
		t.Fatalf("got %d of %T, want 1", len(found), found)
	}
	return found[0]
}

// check has sealtail read the configuration of a ConfigMap.
func check(t *testing.T, m *core.ConfigMap) *conf.Config {
	t.Helper()
	t.Setenv("NODE_NAME", "node-1")
	file := filepath.Join(t.TempDir(), agentFile)
	if err := os.WriteFile(file, []byte(m.Data[agentFile]), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := conf.Load(file)
	if err != nil {
		t.Fatalf("%v in\n%s", err, m.Data[agentFile])
	}
	return cfg
}

// TestValues renders every file of ci and the one of the plain manifests.
func TestValues(t *testing.T) {
	files, err := filepath.Glob(chartDir + "/ci/*-values.yaml")
	if err != nil || len(files) < 3 {
		t.Fatalf("got %q, %v", files, err)
	}
	for _, file := range append(files, plainDir+"/values.yaml") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			lint := action.NewLint()
			lint.Strict, lint.KubeVersion = true, &chartutil.KubeVersion{Version: "v1.34.4", Major: "1", Minor: "34"}
			result := lint.Run([]string{chartDir}, values(t, file, ""))
			for _, m := range result.Messages {
				if m.Severity > support.InfoSev {
					t.Errorf("lint: %s", m)
				}
			}
			manifest, _, err := render(t, "logs", values(t, file, ""))
			if err != nil {
				t.Fatal(err)
			}
			objects := decode(t, manifest)
			cfg := check(t, one[*core.ConfigMap](t, objects))
			ds := one[*apps.DaemonSet](t, objects)
			pod, box := ds.Spec.Template.Spec, ds.Spec.Template.Spec.Containers[0]

			if cfg.Agent.Host != "node-1" {
				t.Errorf("host: got %q, want that of NODE_NAME", cfg.Agent.Host)
			}
			stop := cfg.Agent.Stop.SealTimeout + cfg.Agent.Stop.ShipTimeout
			if got := *pod.TerminationGracePeriodSeconds; float64(got) < stop.Seconds()+10 {
				t.Errorf("grace period: got %d s, but a stop may take %s", got, stop)
			}
			sec := box.SecurityContext
			if !slices.Equal(sec.Capabilities.Drop, []core.Capability{"ALL"}) || !*sec.ReadOnlyRootFilesystem || *sec.AllowPrivilegeEscalation {
				t.Errorf("security context: %v", sec)
			}
			if pod.SecurityContext.SeccompProfile.Type != core.SeccompProfileTypeRuntimeDefault || *pod.AutomountServiceAccountToken {
				t.Error("pod: seccomp profile or token")
			}
			for _, v := range box.VolumeMounts {
				writes := v.Name == "state" || v.Name == "sealed"
				if v.ReadOnly == writes {
					t.Errorf("volume %s: read-only %v", v.Name, v.ReadOnly)
				}
			}
		})
	}
}

// TestRights holds who may read what to the least that does it.
func TestRights(t *testing.T) {
	const base = chartDir + "/ci/host-values.yaml"
	tests := []struct {
		name, set string
		uid       int64
		add       []core.Capability
		groups    []int64
		logs      string
	}{
		{name: "containers", set: "hostLogs: {enabled: false}", logs: "/var/log/pods"},
		{name: "host", add: []core.Capability{"DAC_READ_SEARCH"}, logs: "/var/log"},
		{name: "non-root", set: "{hostLogs: {enabled: false}, nonRoot: {enabled: true}}", uid: 65532, groups: []int64{0}, logs: "/var/log/pods"},
		{name: "non-root host", set: "nonRoot: {enabled: true}", uid: 65532, groups: []int64{0, 4}, logs: "/var/log"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			manifest, notes, err := render(t, "logs", values(t, base, tt.set))
			if err != nil {
				t.Fatal(err)
			}
			spec := one[*apps.DaemonSet](t, decode(t, manifest)).Spec.Template.Spec
			if got := *spec.SecurityContext.RunAsUser; got != tt.uid {
				t.Errorf("user: got %d, want %d", got, tt.uid)
			}
			if got := spec.SecurityContext.SupplementalGroups; !slices.Equal(got, tt.groups) {
				t.Errorf("groups: got %v, want %v", got, tt.groups)
			}
			if got := spec.Containers[0].SecurityContext.Capabilities.Add; !slices.Equal(got, tt.add) {
				t.Errorf("capabilities: got %v, want %v", got, tt.add)
			}
			i := slices.IndexFunc(spec.Volumes, func(v core.Volume) bool { return v.Name == "logs" })
			if got := spec.Volumes[i].HostPath.Path; got != tt.logs {
				t.Errorf("logs: got %s, want %s", got, tt.logs)
			}
			if got, want := strings.Contains(notes, "install -d"), tt.uid != 0; got != want {
				t.Errorf("the notes tell how to make the directory: got %v, want %v", got, want)
			}
		})
	}
}

// TestOwnLogs: what the agent says must not become input, whatever its release
// is called.
func TestOwnLogs(t *testing.T) {
	manifest, _, err := render(t, "logs", values(t, chartDir+"/ci/host-values.yaml", "{fullnameOverride: shipper, containerLogs: {exclude: ['**/*.old']}}"))
	if err != nil {
		t.Fatal(err)
	}
	cfg := check(t, one[*core.ConfigMap](t, decode(t, manifest)))
	want := []string{"/var/log/pods/logs_shipper-*/**", "**/*.tmp", "**/*.old"}
	if got := cfg.Streams[0].Exclude; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestNetworkPolicy(t *testing.T) {
	manifest, _, err := render(t, "logs", values(t, chartDir+"/ci/sls-values.yaml", ""))
	if err != nil {
		t.Fatal(err)
	}
	objects := decode(t, manifest)
	policy := one[*networking.NetworkPolicy](t, objects).Spec
	cfg, box := check(t, one[*core.ConfigMap](t, objects)), one[*apps.DaemonSet](t, objects).Spec.Template.Spec.Containers[0]
	if got, want := fmt.Sprintf("0.0.0.0:%d", box.Ports[0].ContainerPort), cfg.Agent.Listen; got != want || len(policy.Ingress) != 1 ||
		policy.Ingress[0].Ports[0].Port.IntVal != box.Ports[0].ContainerPort {
		t.Errorf("port of metrics: got %s in the pod, %s in the configuration, %v in the policy", got, want, policy.Ingress)
	}
	var got []string
	for _, rule := range policy.Egress {
		for _, p := range rule.Ports {
			got = append(got, fmt.Sprintf("%s %s", *p.Protocol, p.Port))
		}
	}
	if want := []string{"UDP 53", "TCP 53", "TCP 443", "TCP 8443"}; !slices.Equal(got, want) {
		t.Errorf("egress: got %v, want %v", got, want)
	}
}

// TestRefused: a value that is unknown or cannot be is an error that names it.
func TestRefused(t *testing.T) {
	tests := []struct{ set, want string }{
		{"bogus: 1", "bogus"},
		{"image: {tga: x}", "tga"},
		{"image: {digest: sha256:12}", "digest"},
		{"containerLogs: {includes: []}", "includes"},
		{"containerLogs: {include: [relative/*.log]}", "include"},
		{"containerLogs: {suite: des}", "suite"},
		{"hostLogs: {enabled: 'yes'}", "enabled"},
		{"nonRoot: {uid: 0}", "uid"},
		{"resources: {limit: {}}", "limit"},
		{"stop: {sealTimeoutSeconds: 1.5}", "sealTimeoutSeconds"},
		{"port: 0", "port"},
		{"state: {hostPath: var}", "hostPath"},
		{"networkPolicy: {egressPorts: [0]}", "egressPorts"},
		{"goMemLimit: 230Mi", "goMemLimit"},
		{"maxUnavailable: most", "maxUnavailable"},
		{"tolerations: {}", "tolerations"},
		{"config: ''", "config is empty"},
	}
	for _, tt := range tests {
		_, _, err := render(t, "logs", values(t, chartDir+"/ci/sls-values.yaml", tt.set))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want an error with %q", tt.set, err, tt.want)
		}
	}
}

// TestPlainManifests: packaging/kubernetes is the chart, rendered.
func TestPlainManifests(t *testing.T) {
	manifest, _, err := render(t, "sealtail", values(t, plainDir+"/values.yaml", ""))
	if err != nil {
		t.Fatal(err)
	}
	want := "# Rendered from packaging/helm/sealtail by make manifests; edit the places named EDIT.\n" + manifest
	if *update {
		if err := os.WriteFile(plainFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(plainFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("packaging/kubernetes/sealtail.yaml is not what the chart gives: make manifests")
	}
	namespace, err := os.ReadFile(plainDir + "/namespace.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if got := one[*core.Namespace](t, decode(t, string(namespace))).Name; got != "sealtail" {
		t.Errorf("namespace: got %s", got)
	}
}
