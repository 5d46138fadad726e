package tail

import (
	"os"
	"path/filepath"
	"strings"

	"sealtail/record"
)

// Tags of the container whose log a file is, as its path tells them.
const (
	tagNamespace = "__namespace__"
	tagPod       = "__pod_name__"
	tagPodUID    = "__pod_uid__"
	tagContainer = "__container_name__"
	tagRestarts  = "__restart_count__"
)

// podTags returns what the path of a container's log says of it:
//
//	…/NAMESPACE_POD_UID/CONTAINER/RESTARTS.log[.ROTATED]
//
// A link, such as /var/log/containers/POD_NAMESPACE_CONTAINER-ID.log, is
// followed until there is such a path.
func podTags(path string) []record.Tag {
	for range 4 {
		if tags := podPath(path); tags != nil {
			return tags
		}
		to, err := os.Readlink(path)
		if err != nil {
			return nil
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(path), to)
		}
		path = to
	}
	return nil
}

func podPath(path string) []record.Tag {
	dir, name := filepath.Split(path)
	restarts, _, ok := strings.Cut(name, ".log")
	if !ok || restarts == "" || strings.Trim(restarts, "0123456789") != "" {
		return nil
	}
	dir, container := filepath.Split(filepath.Clean(dir))
	pod := strings.Split(filepath.Base(dir), "_")
	if len(pod) != 3 || container == "" {
		return nil
	}
	return []record.Tag{
		{Key: tagNamespace, Value: pod[0]}, {Key: tagPod, Value: pod[1]}, {Key: tagPodUID, Value: pod[2]},
		{Key: tagContainer, Value: container}, {Key: tagRestarts, Value: restarts},
	}
}
