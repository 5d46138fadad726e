package emul

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strconv"
	"time"
)

const maxLogstores = 200 // of a project

var projectNames = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$`)

// A project holds Logstores. Server.mu guards it and all below it.
type project struct {
	name, description, redundancy string
	created, modified             time.Time
	logstores                     map[string]*logstore
}

// AddProject creates a project, if it is not there.
func (s *Server) AddProject(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.projects[name] == nil {
		now := s.now()
		s.projects[name] = &project{name: name, created: now, modified: now, logstores: map[string]*logstore{}}
	}
}

// project returns the project of a call.
func (s *Server) project(c *call) (*project, error) {
	if c.log.Project == "" {
		return nil, slsError("MissingParameter", "The request names no project.")
	}
	p := s.projects[c.log.Project]
	if p == nil {
		return nil, slsError("ProjectNotExist", "The Project does not exist: %s", c.log.Project)
	}
	return p, nil
}

func (s *Server) getProject(c *call) (*answer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.log.Project == "" {
		list := []map[string]any{}
		for _, name := range sorted(s.projects) {
			list = append(list, s.describe(s.projects[name]))
		}
		return jsonAnswer(http.StatusOK, map[string]any{"count": len(list), "total": len(list), "projects": list}), nil
	}
	p, err := s.project(c)
	if err != nil {
		return nil, err
	}
	return jsonAnswer(http.StatusOK, s.describe(p)), nil
}

func (s *Server) describe(p *project) map[string]any {
	return map[string]any{
		"projectName": p.name, "description": p.description, "status": "Normal", "owner": "", "region": s.o.Region,
		"createTime": strconv.FormatInt(p.created.Unix(), 10), "lastModifyTime": strconv.FormatInt(p.modified.Unix(), 10),
		"dataRedundancyType": or(p.redundancy, "LRS"), "location": s.o.Region + "-a",
	}
}

func (s *Server) createProject(c *call) (*answer, error) {
	body, err := c.json()
	if err != nil {
		return nil, err
	}
	var b struct {
		ProjectName        string `json:"projectName"`
		Description        string `json:"description"`
		DataRedundancyType string `json:"dataRedundancyType"`
		ResourceGroupID    string `json:"resourceGroupId"`
	}
	if err := strict(body, &b); err != nil {
		return nil, slsError("ParameterInvalid", "The body is invalid: %v", err)
	}
	if !projectNames.MatchString(b.ProjectName) {
		return nil, slsError("ParameterInvalid", "The project name %q is invalid.", b.ProjectName)
	}
	if host := s.projectName(c); host != "" && host != b.ProjectName {
		return nil, slsError("ParameterInvalid", "The host names project %s, the body %s.", host, b.ProjectName)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.projects[b.ProjectName] != nil {
		return nil, slsError("ProjectAlreadyExist", "Project %s already exists.", b.ProjectName)
	}
	s.projects[b.ProjectName] = &project{
		name: b.ProjectName, description: b.Description, redundancy: b.DataRedundancyType,
		created: c.now, modified: c.now, logstores: map[string]*logstore{},
	}
	return ok(), nil
}

func (s *Server) updateProject(c *call) (*answer, error) {
	body, err := c.json()
	if err != nil {
		return nil, err
	}
	var b struct {
		Description string `json:"description"`
	}
	if err := strict(body, &b); err != nil {
		return nil, slsError("ParameterInvalid", "The body is invalid: %v", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.project(c)
	if err != nil {
		return nil, err
	}
	p.description, p.modified = b.Description, c.now
	return ok(), nil
}

func (s *Server) deleteProject(c *call) (*answer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.project(c)
	if err != nil {
		return nil, err
	}
	s.dropProject(p.name)
	return ok(), nil
}

func (s *Server) dropProject(name string) {
	for _, l := range s.projects[name].logstores {
		l.drop()
	}
	delete(s.projects, name)
}

// json returns the body of a call that must have one of JSON. Its raw size
// must be told and be true.
func (c *call) json() ([]byte, error) {
	if c.header("Content-Type") != "application/json" {
		return nil, slsError("InvalidContentType", "Content-Type %q must be application/json", c.header("Content-Type"))
	}
	switch n, err := strconv.Atoi(c.header("x-log-bodyrawsize")); {
	case c.header("x-log-bodyrawsize") == "":
		return nil, slsError("MissingParameter", "x-log-bodyrawsize does not exist in the header.")
	case err != nil || n != len(c.body):
		return nil, slsError("InvalidBodyRawSize", "x-log-bodyrawsize is %s, the body has %d bytes.", c.header("x-log-bodyrawsize"), len(c.body))
	}
	return c.body, nil
}

// nameIn returns a string of a JSON object, "" if it is not there.
func nameIn(body []byte, key string) string {
	var all map[string]json.RawMessage
	var name string
	if json.Unmarshal(body, &all) != nil || json.Unmarshal(all[key], &name) != nil {
		return ""
	}
	return name
}
