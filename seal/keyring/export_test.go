package keyring

// ParseMarshal returns the canonical text of a keyring file.
func ParseMarshal(b []byte) ([]byte, error) {
	f, err := parse(b)
	if err != nil {
		return nil, err
	}
	return f.marshal(), nil
}

// Members returns names and values of a JSON object by turns.
func Members(b []byte) (all []string, err error) {
	err = members(b, func(name string, value []byte) error {
		all = append(all, name, string(value))
		return nil
	})
	return all, err
}
