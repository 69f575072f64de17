// Command composecheck loads compose files as Docker Compose does, by the
// library that it is made of, and prints what is wrong.
//
//	GOWORK=off go run ./composecheck -profiles light deploy/compose/compose.yaml
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
	flag.Parse()
	problems, err := check(context.Background(), flag.Args(), *profiles, *envFile, *published)
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

func check(ctx context.Context, files []string, profiles, envFile, published string) ([]string, error) {
	options := []cli.ProjectOptionsFn{cli.WithProfiles(strings.Split(profiles, ",")), cli.WithInterpolation(true), cli.WithResolvedPaths(true)}
	if envFile != "" {
		options = append(options, cli.WithEnvFiles(envFile), cli.WithDotEnv)
	}
	po, err := cli.NewProjectOptions(files, options...)
	if err != nil {
		return nil, err
	}
	project, err := po.LoadProject(ctx)
	if err != nil {
		return nil, err
	}
	if len(project.Services) == 0 {
		return nil, fmt.Errorf("%v: no service with profiles %s", files, profiles)
	}
	var problems []string
	for _, name := range slices.Sorted(maps.Keys(project.Services)) {
		for _, p := range rules(project.Services[name], published) {
			problems = append(problems, name+": "+p)
		}
	}
	return append(problems, mounts(project)...), nil
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
		if secret && value != nil && *value != "" && !strings.Contains(*value, "/run/secrets/") && *value != "true" && *value != "false" {
			say("variable %s holds a secret: give it as a file", key)
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

// mounts returns the files of the repository that services mount and that are
// not there. What the start makes (data, secrets, certificates) is not looked at.
func mounts(project *types.Project) (problems []string) {
	for _, name := range slices.Sorted(maps.Keys(project.Services)) {
		for _, v := range project.Services[name].Volumes {
			if v.Type != types.VolumeTypeBind || !strings.Contains(v.Source, "/deploy/") && !strings.Contains(v.Source, "/dashboards") {
				continue
			}
			rel := strings.TrimPrefix(v.Source, project.WorkingDir+"/")
			if strings.HasPrefix(rel, "data/") || strings.HasPrefix(rel, "secrets/") || strings.HasPrefix(rel, "certs/") {
				continue
			}
			if _, err := os.Stat(v.Source); err != nil {
				problems = append(problems, fmt.Sprintf("%s: mounts what is not there: %v", name, err))
			}
		}
	}
	return problems
}
