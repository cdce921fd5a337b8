package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/client"
)

func networkCommand(e *Env) *cobra.Command {
	service := newGroup("service", "Workloads as the network sees them", "  cloudless network service list",
		networkList(e, "List services", "  cloudless network service list -A", serviceView(), (*client.Client).Services))
	endpoint := newGroup("endpoint", "Replicas that requests are routed to", "  cloudless network endpoint list",
		networkList(e, "List endpoints", "  cloudless network endpoint list -o wide", endpointView(), (*client.Client).Endpoints))
	return newGroup("network", "See services and endpoints", "  cloudless network service list\n  cloudless network endpoint list", service, endpoint)
}

func networkList[T any](e *Env, short, example string, v view[T], fetch func(*client.Client, context.Context, api.ListQuery) (api.List[T], error)) *cobra.Command {
	var f listFlags
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: short, Args: cobra.NoArgs, Example: example,
		RunE: e.with(func(ctx context.Context, c *client.Client, _ []string) error {
			q, err := f.query(e, true)
			if err != nil {
				return err
			}
			get := func(ctx context.Context, c *client.Client, q api.ListQuery) (api.List[T], error) {
				return fetch(c, ctx, q)
			}
			return listing[T]{&f, v, get}.run(ctx, e, c, q)
		}),
	}
	f.addNamespaced(cmd)
	return cmd
}

func serviceView() view[api.Service] {
	return view[api.Service]{
		name: func(s api.Service) string { return s.Name },
		columns: []column[api.Service]{
			{"NAMESPACE", false, func(s api.Service) string { return s.Namespace }},
			{"NAME", false, func(s api.Service) string { return s.Name }},
			{"HOSTS", false, func(s api.Service) string { return strings.Join(s.Hosts, ",") }},
			{"PORTS", false, ports},
			{"READY", false, readyEndpoints},
		},
	}
}

func ports(s api.Service) string {
	var out []string
	for _, p := range s.Ports {
		text := strconv.Itoa(p.Port) + "/" + p.Protocol
		if p.Publish != 0 {
			text = strconv.Itoa(p.Publish) + ":" + text
		}
		out = append(out, text)
	}
	return strings.Join(out, ",")
}

func readyEndpoints(s api.Service) string {
	n := 0
	for _, ep := range s.Endpoints {
		if ep.Ready {
			n++
		}
	}
	return fmt.Sprintf("%d/%d", n, len(s.Endpoints))
}

func endpointView() view[api.Endpoint] {
	return view[api.Endpoint]{
		name: func(ep api.Endpoint) string { return ep.ReplicaID },
		columns: []column[api.Endpoint]{
			{"NAMESPACE", false, func(ep api.Endpoint) string { return ep.Namespace }},
			{"SERVICE", false, func(ep api.Endpoint) string { return ep.Service }},
			{"REPLICA", false, func(ep api.Endpoint) string { return ep.ReplicaID }},
			{"NODE", false, func(ep api.Endpoint) string { return ep.Node }},
			{"HEALTH", false, health},
			{"WEIGHT", false, func(ep api.Endpoint) string { return strconv.Itoa(ep.Weight) }},
			{"VARIANT", false, func(ep api.Endpoint) string { return string(ep.Variant) }},
			{"ZONE", true, func(ep api.Endpoint) string { return ep.Zone }},
			{"REGION", true, func(ep api.Endpoint) string { return ep.Region }},
		},
	}
}

func health(ep api.Endpoint) string {
	switch {
	case !ep.Ready:
		return "unready"
	case ep.Suspect:
		return "suspect"
	}
	return "ready"
}
