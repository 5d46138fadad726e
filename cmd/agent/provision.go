package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"sealtail/conf"
	"sealtail/internal/command"
	"sealtail/sink/sls"
)

func provisionCommand(args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("provision", flag.ContinueOnError)
	load := configFlag(flags)
	policies := flags.Bool("print-policies", false, "print the policies that it all takes, and call nobody")
	env := flags.Bool("env", false, "use the access key in the environment, not the sink's")
	if _, err := command.Parse(flags, args, 0, 0); err != nil {
		return err
	}
	cfg, err := load()
	if err != nil {
		return err
	}
	logstores := logstoresOf(cfg)
	if len(logstores) == 0 {
		_, err := fmt.Fprintf(stdout, "%s: no sink is a Logstore, there is nothing to provision\n", cfg.File)
		return err
	}
	if *policies {
		return printPolicies(stdout, cfg, logstores)
	}
	for _, w := range cfg.Warnings {
		program.Tell(stderr, "warning", w.Error())
		program.Tell(stderr, "hint", w.Fix)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var faults conf.Faults
	for _, name := range logstores {
		text, fault := provision(ctx, cfg, name, *env)
		if fault != nil {
			faults = append(faults, *fault)
			continue
		}
		if _, err := io.WriteString(stdout, text); err != nil {
			return err
		}
	}
	if len(faults) > 0 {
		return outside{faults}
	}
	return nil
}

// logstoresOf returns the names of the sinks that are Logstores.
func logstoresOf(cfg *conf.Config) (names []string) {
	for _, name := range slices.Sorted(maps.Keys(cfg.Sinks)) {
		if cfg.Sinks[name].Type == "sls" {
			names = append(names, name)
		}
	}
	return names
}

// provision sees to it that one sink's Logstore is there, and says what it
// found or did.
func provision(ctx context.Context, cfg *conf.Config, name string, env bool) (string, *conf.Fault) {
	s := cfg.Sinks[name]
	if env {
		s.Credentials = conf.Credentials{Type: "env"}
	}
	client, err := openSLS(s)
	if err != nil {
		f := logstoreFault(cfg, name, s, err)
		return "", &f
	}
	defer client.Close()
	o, err := client.Provision(ctx, sls.Spec{
		Encryption: encryptionOf(s), TTL: int(s.Create.TTLDays), Shards: int(s.Create.Shards),
		AutoSplit: s.Create.AutoSplit, MaxShards: int(s.Create.MaxShards),
	})
	if err != nil {
		f := logstoreFault(cfg, name, s, err)
		if e, ok := errors.AsType[*sls.Error](err); ok && e.Class == sls.Denied && !env {
			f.Fix += "; or have --env take one in the environment that may"
		}
		return "", &f
	}
	did := "was there, and is encrypted as configured"
	if o.Created {
		did = "created"
	}
	text := fmt.Sprintf("sink %s: Logstore %s of project %s: %s\n  encryption  %s\n  kept        %d days, in %d shards\n",
		name, s.Logstore, s.Project, did, encryptionText(s.Encryption), o.Logstore.TTL, o.Logstore.Shards)
	for _, n := range o.Notes {
		text += "  note        " + n + "\n"
	}
	return text, nil
}

// encryptionText says in words how a Logstore is to be encrypted.
func encryptionText(e conf.Encryption) string {
	if e.CMKKeyID == "" {
		return e.Type + ", the service's key"
	}
	return fmt.Sprintf("%s, CMK %s by role %s", e.Type, e.CMKKeyID, e.ARN)
}

// outside are faults of what a configuration speaks of; it is right itself.
type outside struct{ conf.Faults }

const hintMismatch = "the service never changes a Logstore's encryption: mend the config, or name a Logstore that is not there yet"
