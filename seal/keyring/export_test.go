package keyring

// ParseMarshal returns the canonical text of a keyring file.
func ParseMarshal(b []byte) ([]byte, error) {
	f, err := parse(b)
	if err != nil {
		return nil, err
	}
	return f.marshal()
}
