// Command composecheck loads compose files as Docker Compose does, by the
// library that it is made of, and prints what is wrong.
//
//	GOWORK=off go run ./composecheck -profiles light ../deploy/compose/compose.yaml
//
// It also holds the rules of this project: ports on loopback, versions pinned,
// no default password, read-only containers without capabilities, a health
// check and limits for each.
package main

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

func main() {
	profiles := flag.String("profiles", "*", "profiles to load, separated by commas")
	envFile := flag.String("env-file", "", "file with variables")
	published := flag.String("published", "", "the only services that may publish ports, separated by commas; empty for any")
	prepared := flag.Bool("prepared", false, "up.sh has run: what it makes must be there, and secrets be for their owner only")
	flag.Parse()
	problems, err := check(context.Background(), flag.Args(), options{*profiles, *envFile, *published, *prepared})
	if err != nil {
		fmt.Fprintln(os.Stderr, "composecheck:", err)
		os.Exit(1)
	}
	for _, p := range problems {
		fmt.Fprintln(os.Stderr, "composecheck:", p)
	}
	if len(problems) > 0 {
		os.Exit(1)
	}
	fmt.Println("composecheck:", strings.Join(flag.Args(), " "), "ok, profiles", *profiles)
}

// options are the flags.
type options struct {
	profiles, envFile, published string
	prepared                     bool
}

func check(ctx context.Context, files []string, o options) ([]string, error) {
	load := []cli.ProjectOptionsFn{cli.WithProfiles(strings.Split(o.profiles, ",")), cli.WithInterpolation(true), cli.WithResolvedPaths(true)}
	if o.envFile != "" {
		load = append(load, cli.WithEnvFiles(o.envFile), cli.WithDotEnv)
	}
	po, err := cli.NewProjectOptions(files, load...)
	if err != nil {
		return nil, err
	}
	project, err := po.LoadProject(ctx)
	if err != nil {
		return nil, err
	}
	if len(project.Services) == 0 {
		return nil, fmt.Errorf("%v: no service with profiles %s", files, o.profiles)
	}
	var problems []string
	for _, name := range slices.Sorted(maps.Keys(project.Services)) {
		for _, p := range rules(project.Services[name], o.published) {
			problems = append(problems, name+": "+p)
		}
	}
	problems = append(problems, undeclared(project)...)
	return append(problems, mounts(project, o.prepared)...), nil
}

// rules returns what s breaks.
func rules(s types.ServiceConfig, published string) (problems []string) {
	say := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if _, tag, ok := strings.Cut(s.Image[strings.LastIndex(s.Image, "/")+1:], ":"); !ok || tag == "latest" {
		say("image %s has no version", s.Image)
	}
	for _, p := range s.Ports {
		if published != "" && !slices.Contains(strings.Split(published, ","), s.Name) {
			say("publishes port %s, which only %s may", p.Published, published)
		} else if published == "" && p.HostIP != "127.0.0.1" {
			say("publishes port %s on %q, not on 127.0.0.1", p.Published, p.HostIP)
		}
	}
	for key, value := range s.Environment {
		lower := strings.ToLower(key)
		secret := strings.Contains(lower, "password") || strings.Contains(lower, "secret") || strings.HasSuffix(lower, "_key")
		path := value != nil && (strings.HasPrefix(*value, "/") || strings.HasSuffix(*value, ".pem"))
		if secret && value != nil && *value != "" && !path && *value != "true" && *value != "false" {
			say("variable %s holds a secret: give it as a file", key)
		}
	}
	if s.Privileged || s.NetworkMode == "host" {
		say("it is privileged, or in the host's network")
	}
	for _, v := range s.Volumes {
		if strings.HasSuffix(v.Source, "docker.sock") {
			say("it has the container runtime's socket")
		}
	}
	if !s.ReadOnly {
		say("its file system is not read-only")
	}
	if !slices.Contains(s.CapDrop, "ALL") {
		say("it keeps capabilities")
	}
	if !slices.ContainsFunc(s.SecurityOpt, func(o string) bool { return strings.HasPrefix(o, "no-new-privileges") }) {
		say("it may gain privileges")
	}
	if s.User == "" || strings.HasPrefix(s.User, "0:") && s.Labels["kaizen.root"] == "" {
		say("it runs as root")
	}
	if s.Deploy == nil || s.Deploy.Resources.Limits == nil || s.Deploy.Resources.Limits.MemoryBytes == 0 {
		say("it has no memory limit")
	}
	if (s.HealthCheck == nil || s.HealthCheck.Disable) && s.Labels["kaizen.nohealth"] == "" {
		say("it has no health check (or a label kaizen.nohealth that says why)")
	}
	return problems
}

// undeclared returns the secrets that a service mounts and the stack does not
// declare.
func undeclared(project *types.Project) (problems []string) {
	for _, name := range slices.Sorted(maps.Keys(project.Services)) {
		for _, mounted := range project.Services[name].Secrets {
			if _, ok := project.Secrets[mounted.Source]; !ok {
				problems = append(problems, fmt.Sprintf("%s: secret %s is not declared", name, mounted.Source))
			}
		}
	}
	return problems
}

// made are the folders that the start fills.
var made = []string{"data/", "secrets/", "certs/", "generated/"}

// mounts returns the files of the repository that services mount and that are
// not there. What the start makes is looked at once it has run.
func mounts(project *types.Project, prepared bool) (problems []string) {
	say := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	for _, name := range slices.Sorted(maps.Keys(project.Services)) {
		for _, v := range project.Services[name].Volumes {
			if v.Type != types.VolumeTypeBind || !strings.Contains(v.Source, "/deploy/") && !strings.Contains(v.Source, "/dashboards") {
				continue
			}
			rel := strings.TrimPrefix(v.Source, project.WorkingDir+"/")
			if !prepared && slices.ContainsFunc(made, func(m string) bool { return strings.HasPrefix(rel, m) }) {
				continue
			}
			if _, err := os.Stat(v.Source); err != nil {
				say("%s: mounts what is not there: %v", name, err)
			}
		}
	}
	if !prepared {
		return problems
	}
	for _, name := range slices.Sorted(maps.Keys(project.Secrets)) {
		info, err := os.Stat(project.Secrets[name].File)
		switch {
		case err != nil:
			say("secret %s: %v", name, err)
		case info.Mode().Perm() != 0o600 || info.Size() == 0:
			say("secret %s: mode %v, %d bytes: want 0600 and something in it", name, info.Mode(), info.Size())
		}
	}
	return problems
}
