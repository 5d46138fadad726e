package emul

// For fuzz tests: what reads bytes that come from outside.

var (
	CanonicalContext = canonicalContext
	Match            = match
	KMSParams        = kmsParams
	CompressLZ4      = compressLZ4
)

// ParseLogGroup parses a LogGroup and returns how many logs it has.
func ParseLogGroup(b []byte) (int, error) {
	g, err := parseLogGroup(b)
	if err != nil {
		return 0, err
	}
	return len(g.logs), nil
}

// ParseAuthorizations parses a header as each scheme does.
func ParseAuthorizations(header string) (keys [2]string) {
	a, _ := parseACS3(header)
	return [2]string{claimedSLS(header), a.key}
}

// Decompress expands b to size bytes.
func (s *Server) Decompress(kind string, b []byte, size int) ([]byte, error) {
	return s.decompress(kind, b, size)
}

// Unwrap opens a CiphertextBlob under a key of its own.
func Unwrap(blob []byte, context string) ([]byte, error) {
	s := New(Options{})
	return s.own.unwrap(blob, context)
}
