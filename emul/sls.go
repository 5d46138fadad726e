package emul

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// An operation is something that SLS does.
type operation struct {
	name   string // as the vendor's API reference has it
	action string // as RAM has it
	method string
	path   string // {logstore}, {shard} and {} are any one segment
	query  string // name=value that the query must have too
	do     func(*Server, *call) (*answer, error)
}

// operations are what SLS does here, the more exact of two first.
func operations() []operation {
	const logstore, shard = "/logstores/{logstore}", "/logstores/{logstore}/shards/{shard}"
	return []operation{
		{"GetProject", "log:GetProject", "GET", "/", "", (*Server).getProject},
		{"CreateProject", "log:CreateProject", "POST", "/", "", (*Server).createProject},
		{"UpdateProject", "log:UpdateProject", "PUT", "/", "", (*Server).updateProject},
		{"DeleteProject", "log:DeleteProject", "DELETE", "/", "", (*Server).deleteProject},

		{"ListLogStores", "log:ListLogStores", "GET", "/logstores", "", (*Server).listLogstores},
		{"CreateLogStore", "log:CreateLogStore", "POST", "/logstores", "", (*Server).createLogstore},
		{"GetLogs", "log:GetLogStoreLogs", "GET", logstore, "type=log", (*Server).getLogsOld},
		{"GetHistograms", "log:GetLogStoreHistogram", "GET", logstore, "type=histogram", (*Server).getHistograms},
		{"GetLogStore", "log:GetLogStore", "GET", logstore, "", (*Server).getLogstore},
		{"UpdateLogStore", "log:UpdateLogStore", "PUT", logstore, "", (*Server).updateLogstore},
		{"DeleteLogStore", "log:DeleteLogStore", "DELETE", logstore, "", (*Server).deleteLogstore},
		// No document tells the action of this one.
		{"UpdateLogStoreEncryption", "log:UpdateLogStore", "PUT", logstore + "/encryption", "", (*Server).updateEncryption},

		{"PutLogs", "log:PostLogStoreLogs", "POST", logstore, "", (*Server).putLogs},
		{"PutLogs", "log:PostLogStoreLogs", "POST", logstore + "/shards/lb", "", (*Server).putLogs},
		{"PutLogs", "log:PostLogStoreLogs", "POST", logstore + "/shards/route", "", (*Server).putLogs},

		{"ListShards", "log:ListShards", "GET", logstore + "/shards", "", (*Server).listShards},
		{"SplitShard", "log:SplitShard", "POST", shard, "action=split", (*Server).splitShard},
		{"GetCursor", "log:GetCursorOrData", "GET", shard, "type=cursor", (*Server).getCursor},
		{"GetCursorTime", "log:GetCursorOrData", "GET", shard, "type=cursor_time", (*Server).getCursorTime},
		{"PullLogs", "log:GetCursorOrData", "GET", shard, "type=logs", (*Server).pullLogs},

		{"CreateIndex", "log:CreateIndex", "POST", logstore + "/index", "", (*Server).createIndex},
		{"GetIndex", "log:GetIndex", "GET", logstore + "/index", "", (*Server).getIndex},
		{"UpdateIndex", "log:UpdateIndex", "PUT", logstore + "/index", "", (*Server).updateIndex},
		{"DeleteIndex", "log:DeleteIndex", "DELETE", logstore + "/index", "", (*Server).deleteIndex},
		{"GetLogs", "log:GetLogStoreLogs", "POST", logstore + "/logs", "", (*Server).getLogs},

		// Machine groups and configs of collection: there are none.
		{"ListMachineGroup", "log:ListMachineGroup", "GET", "/machinegroups", "", listNone("machinegroups")},
		{"GetMachineGroup", "log:GetMachineGroup", "GET", "/machinegroups/{}", "", getNone("MachineGroupNotExist")},
		{"ListConfig", "log:ListConfig", "GET", "/configs", "", listNone("configs")},
		{"GetConfig", "log:GetConfig", "GET", "/configs/{}", "", getNone("ConfigNotExist")},
	}
}

func listNone(name string) func(*Server, *call) (*answer, error) {
	return func(*Server, *call) (*answer, error) {
		return jsonAnswer(200, map[string]any{"count": 0, "total": 0, name: []string{}}), nil
	}
}

func getNone(code string) func(*Server, *call) (*answer, error) {
	return func(*Server, *call) (*answer, error) { return nil, slsError(code, "") }
}

// routeSLS finds the operation of a request and what it is about.
func (s *Server) routeSLS(c *call) error {
	c.log.AccessKeyID = claimedSLS(c.header("Authorization"))
	c.log.Project = s.projectName(c)
	query := c.URL.Query()
	known := false
	for _, op := range operations() {
		segments, ok := matchPath(op.path, c.URL.Path)
		if !ok {
			continue
		}
		known = true
		if name, value, _ := strings.Cut(op.query, "="); op.method == c.Method && query.Get(name) == value {
			c.op = &op
			c.log.Operation = op.name
			c.log.Logstore = segments["{logstore}"]
			c.shard = segments["{shard}"]
			break
		}
	}
	switch {
	case c.op == nil && known:
		return slsError("InvalidMethod", "")
	case c.op == nil:
		return slsError("NotImplemented", "")
	}
	switch c.op.name { // the resource of a creation is named in its body
	case "CreateLogStore":
		c.log.Logstore = nameIn(c.body, "logstoreName")
	case "CreateProject":
		c.log.Project = or(nameIn(c.body, "projectName"), c.log.Project)
	}
	return nil
}

// matchPath returns the segments of a path that stand for those of a pattern
// in braces.
func matchPath(pattern, path string) (segments map[string]string, ok bool) {
	want, got := strings.Split(pattern, "/"), strings.Split(path, "/")
	if path == "" {
		got = []string{"", ""}
	}
	if len(want) != len(got) {
		return nil, false
	}
	segments = map[string]string{}
	for i := range want {
		switch {
		case strings.HasPrefix(want[i], "{") && got[i] != "":
			segments[want[i]] = got[i]
		case want[i] != got[i]:
			return nil, false
		}
	}
	return segments, true
}

// projectName returns the project that a request is about: x-log-project, or
// the first label of the host, unless that is an endpoint's own name.
func (s *Server) projectName(c *call) string {
	if p := c.header("x-log-project"); p != "" {
		return p
	}
	host := c.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	if _, err := netip.ParseAddr(host); err == nil {
		return ""
	}
	for _, own := range []string{s.o.Host, "localhost", s.o.Region + ".log.aliyuncs.com", s.o.Region + "-intranet.log.aliyuncs.com"} {
		if host == own {
			return ""
		}
	}
	label, _, _ := strings.Cut(host, ".")
	return label
}

// serveSLS verifies the signature and the right, and carries out the operation.
func (s *Server) serveSLS(c *call) (*answer, error) {
	cred, err := s.signerSLS(c)
	if err != nil {
		return nil, err
	}
	c.cred = cred
	if err := s.may(c, c.op.action, s.resource(c)); err != nil {
		return nil, err
	}
	return c.op.do(s, c)
}

// may returns an error unless the caller may do something.
func (s *Server) may(c *call, action, resource string) error {
	if !c.cred.may(action, resource) {
		return slsError("Unauthorized", "denied by sts or ram, action: %s, resource: %s", action, resource)
	}
	return nil
}

// resource returns the ARN of what a call is about.
func (s *Server) resource(c *call) string {
	arn := fmt.Sprintf("acs:log:%s:%s:project/%s", s.o.Region, s.o.Account, or(c.log.Project, "*"))
	switch {
	case c.log.Logstore != "":
		return arn + "/logstore/" + c.log.Logstore
	case c.op.name == "ListLogStores":
		return arn + "/logstore/*"
	}
	return arn
}
