package factory

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxIncluded bounds a file that is put in the place of ${file:path}, in bytes.
const maxIncluded = 1 << 20

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

var errDollar = errors.New(`"${" begins the name of an environment variable, as in ${NAME}, or the path of a file, as in ${file:/run/secrets/name}; ` +
	`for the two characters themselves write "$${"`)

// expand replaces ${NAME} by an environment variable and ${file:path} by what
// is in a file, without a line break at its end. "$${" stands for "${". Every
// other "$" is itself, so that few passwords need to be changed to stand in a
// configuration. No error quotes text.
func expand(text string) (string, error) {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(text, "${")
		b.WriteString(before)
		if !found {
			return b.String(), nil
		}
		if escaped := strings.HasSuffix(before, "$"); escaped {
			b.WriteString("{") // the "$" that escapes is already there
			text = rest
			continue
		}
		name, after, closed := strings.Cut(rest, "}")
		if !closed {
			return "", errDollar
		}
		value, err := included(name)
		if err != nil {
			return "", err
		}
		b.WriteString(value)
		text = after
	}
}

// included returns what stands for ${name}.
func included(name string) (string, error) {
	if path, ok := strings.CutPrefix(name, "file:"); ok && path != "" {
		value, err := readIncluded(path)
		if err != nil {
			return "", fmt.Errorf("${%s}: %w", name, err)
		}
		return value, nil
	}
	if !variableName.MatchString(name) {
		return "", errDollar
	}
	value, set := os.LookupEnv(name)
	if !set {
		return "", fmt.Errorf(`${%s}: the environment variable %s is not set; for a "${" that is meant as it stands write "$${"`, name, name)
	}
	return value, nil
}

func readIncluded(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxIncluded+1))
	if err != nil {
		return "", err
	}
	if len(content) > maxIncluded {
		return "", fmt.Errorf("the file has more than %d bytes", maxIncluded)
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(content), "\n"), "\r"), nil
}

// expandAll returns a node like the given one whose values are expanded, for a
// type that decodes it itself. Depth bounds aliases that contain themselves.
func expandAll(node *yaml.Node, depth int) (*yaml.Node, error) {
	node = resolve(node)
	if depth == 0 {
		return nil, errors.New("nested too deeply")
	}
	result := *node
	if node.Kind == yaml.ScalarNode {
		text, err := expand(node.Value)
		if err != nil {
			return nil, err
		}
		if text != node.Value && node.Style == 0 {
			result.Tag = "" // a plain one may be a number now
		}
		result.Value = text
		return &result, nil
	}
	result.Content = make([]*yaml.Node, len(node.Content))
	for i, inner := range node.Content {
		if node.Kind == yaml.MappingNode && i%2 == 0 {
			result.Content[i] = inner // names are what they are
			continue
		}
		var err error
		if result.Content[i], err = expandAll(inner, depth-1); err != nil {
			return nil, err
		}
	}
	return &result, nil
}
