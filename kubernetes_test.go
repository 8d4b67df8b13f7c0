package polykv_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/polykv/polykv/kv/factory"
	"github.com/polykv/polykv/kv/memberlist"
)

// What deploy/kubernetes/gossip.yaml uses of Kubernetes' API: other fields are
// errors, since a field with a wrong name does nothing.
type (
	kubeMeta struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string
		Metadata   struct {
			Name   string
			Labels map[string]string
		}
	}
	kubeSelector struct {
		MatchLabels map[string]string `yaml:"matchLabels"`
	}
	kubePort struct {
		Name          string
		Port          int
		ContainerPort int    `yaml:"containerPort"`
		TargetPort    string `yaml:"targetPort"`
		Protocol      string
	}
	kubeProbe struct {
		HTTPGet *struct {
			Path, Port string
		} `yaml:"httpGet"`
		TCPSocket *struct {
			Port string
		} `yaml:"tcpSocket"`
		PeriodSeconds    int `yaml:"periodSeconds"`
		TimeoutSeconds   int `yaml:"timeoutSeconds"`
		FailureThreshold int `yaml:"failureThreshold"`
	}
	kubeContainer struct {
		Name, Image     string
		Args            []string
		Ports           []kubePort
		ReadinessProbe  kubeProbe `yaml:"readinessProbe"`
		LivenessProbe   kubeProbe `yaml:"livenessProbe"`
		Resources       struct{ Requests, Limits map[string]string }
		SecurityContext struct {
			AllowPrivilegeEscalation bool `yaml:"allowPrivilegeEscalation"`
			ReadOnlyRootFilesystem   bool `yaml:"readOnlyRootFilesystem"`
		} `yaml:"securityContext"`
	}
	kubeService struct {
		kubeMeta `yaml:",inline"`
		Spec     struct {
			ClusterIP                string `yaml:"clusterIP"`
			PublishNotReadyAddresses bool   `yaml:"publishNotReadyAddresses"`
			Selector                 map[string]string
			Ports                    []kubePort
		}
	}
	kubeStatefulSet struct {
		kubeMeta `yaml:",inline"`
		Spec     struct {
			ServiceName         string `yaml:"serviceName"`
			Replicas            int
			PodManagementPolicy string `yaml:"podManagementPolicy"`
			Selector            kubeSelector
			Template            struct {
				Metadata struct{ Labels map[string]string }
				Spec     struct {
					TerminationGracePeriodSeconds int `yaml:"terminationGracePeriodSeconds"`
					SecurityContext               struct {
						RunAsNonRoot bool `yaml:"runAsNonRoot"`
						RunAsUser    int  `yaml:"runAsUser"`
					} `yaml:"securityContext"`
					Containers []kubeContainer
				}
			}
		}
	}
	kubeBudget struct {
		kubeMeta `yaml:",inline"`
		Spec     struct {
			MaxUnavailable int `yaml:"maxUnavailable"`
			Selector       kubeSelector
		}
	}
	kubePolicy struct {
		kubeMeta `yaml:",inline"`
		Spec     struct {
			PodSelector kubeSelector `yaml:"podSelector"`
			PolicyTypes []string     `yaml:"policyTypes"`
			Ingress     []struct {
				From []struct {
					PodSelector kubeSelector `yaml:"podSelector"`
				}
				Ports []kubePort
			}
		}
	}
)

// decodeKube reads the documents of a manifest into those of their kinds.
func decodeKube(t *testing.T, file string, kinds map[string]any) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	documents := yaml.NewDecoder(f)
	for n := 0; ; n++ {
		var doc yaml.Node
		if err := documents.Decode(&doc); errors.Is(err, io.EOF) {
			if n != len(kinds) {
				t.Errorf("%s has %d documents, want %d", file, n, len(kinds))
			}
			return
		} else if err != nil {
			t.Fatal(err)
		}
		var meta struct {
			Kind       string
			APIVersion string         `yaml:"apiVersion"`
			Rest       map[string]any `yaml:",inline"`
		}
		if err := doc.Decode(&meta); err != nil {
			t.Fatal(err)
		}
		into := kinds[meta.APIVersion+" "+meta.Kind]
		if into == nil {
			t.Fatalf("%s has a %s %s", file, meta.APIVersion, meta.Kind)
		}
		text, err := yaml.Marshal(&doc)
		if err != nil {
			t.Fatal(err)
		}
		strict := yaml.NewDecoder(strings.NewReader(string(text)))
		strict.KnownFields(true)
		if err := strict.Decode(into); err != nil {
			t.Errorf("%s: %s: %v", file, meta.Kind, err)
		}
	}
}

// TestGossipManifest wants the pieces of the manifest to fit each other and the
// program. That its probes are answered is tested in cli.
func TestGossipManifest(t *testing.T) {
	var service kubeService
	var set kubeStatefulSet
	var budget kubeBudget
	var policy kubePolicy
	decodeKube(t, "deploy/kubernetes/gossip.yaml", map[string]any{
		"v1 Service": &service, "apps/v1 StatefulSet": &set, "policy/v1 PodDisruptionBudget": &budget, "networking.k8s.io/v1 NetworkPolicy": &policy,
	})
	if len(set.Spec.Template.Spec.Containers) != 1 {
		t.Fatalf("%d containers", len(set.Spec.Template.Spec.Containers))
	}
	pod, labels := set.Spec.Template.Spec, set.Spec.Template.Metadata.Labels
	container := pod.Containers[0]

	if service.Spec.ClusterIP != "None" || !service.Spec.PublishNotReadyAddresses || set.Spec.ServiceName != service.Metadata.Name {
		t.Errorf("the service is not headless, hides who isn't ready, or is not the set's: %+v", service.Spec)
	}
	for what, selector := range map[string]map[string]string{
		"service": service.Spec.Selector, "set": set.Spec.Selector.MatchLabels, "budget": budget.Spec.Selector.MatchLabels,
		"policy": policy.Spec.PodSelector.MatchLabels, "policy's from": policy.Spec.Ingress[0].From[0].PodSelector.MatchLabels,
	} {
		if len(selector) == 0 {
			t.Errorf("the selector of the %s chooses all", what)
		}
		for name, value := range selector {
			if labels[name] != value {
				t.Errorf("the selector of the %s wants %s: %s, the pods have %v", what, name, value, labels)
			}
		}
	}

	cfg := memberArgs(t, container.Args)
	port := memberlist.DefaultConfig().BindPort
	if cfg.BindPort != port || cfg.ClusterLabel == "" || !slices.Equal(cfg.Join, []string{fmt.Sprintf("dns+%s:%d", service.Metadata.Name, port)}) {
		t.Errorf("the program is told port %d, label %q, join %q", cfg.BindPort, cfg.ClusterLabel, cfg.Join)
	}
	if seconds := int(cfg.CloseTimeout.Seconds()); pod.TerminationGracePeriodSeconds < 2*seconds {
		t.Errorf("a pod is killed after %d s, closing may take %d s", pod.TerminationGracePeriodSeconds, seconds)
	}
	numbers := map[string]int{}
	for _, p := range container.Ports {
		numbers[p.Name] = p.ContainerPort
	}
	gossip := map[string]int{"TCP": port, "UDP": port}
	same := func(what string, ports []kubePort, number func(kubePort) int) {
		got := map[string]int{}
		for _, p := range ports {
			if !strings.Contains(p.Name, "health") {
				got[p.Protocol] = number(p)
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(gossip) {
			t.Errorf("the ports of the %s are %v, want %v", what, got, gossip)
		}
	}
	same("service", service.Spec.Ports, func(p kubePort) int { return p.Port })
	same("service's targets", service.Spec.Ports, func(p kubePort) int { return numbers[p.TargetPort] })
	same("container", container.Ports, func(p kubePort) int { return p.ContainerPort })
	same("policy", policy.Spec.Ingress[0].Ports, func(p kubePort) int { return p.Port })

	health := fmt.Sprintf("--health=:%d", numbers["health"])
	if numbers["health"] == 0 || !slices.Contains(container.Args, health) || policy.Spec.Ingress[1].Ports[0].Port != numbers["health"] {
		t.Errorf("probes go to port %d, the program is told %q", numbers["health"], container.Args)
	}
	if get := container.ReadinessProbe.HTTPGet; get == nil || get.Port != "health" || get.Path != "/" {
		t.Errorf("the probe of readiness is %+v", get)
	}
	if tcp := container.LivenessProbe.TCPSocket; tcp == nil || tcp.Port != "health" {
		t.Errorf("the probe of liveness is %+v", tcp)
	}
}

// memberArgs reads the options of a gossip node among a command's arguments.
func memberArgs(t *testing.T, args []string) memberlist.Config {
	t.Helper()
	cfg := factory.NewConfig()
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	cfg.RegisterFlags(fs, "")
	own := slices.DeleteFunc(slices.Clone(args), func(arg string) bool { return !strings.HasPrefix(arg, "--memberlist.") })
	if err := fs.Parse(own); err != nil {
		t.Fatal(err)
	}
	section, ok := cfg.Section("memberlist").(*memberlist.Config)
	if !ok {
		t.Fatal("there is no section memberlist")
	}
	if err := section.Validate(); err != nil {
		t.Error(err)
	}
	return *section
}
