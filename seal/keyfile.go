package seal

import "encoding/binary"

// A RewrappedKey is a data key wrapped anew, for other holders than those in
// the envelopes that it sealed.
type RewrappedKey struct {
	DEKID      [16]byte
	Recipients []Recipient
}

// A key file holds them:
//
//	magic 89 53 4B 31
//	then per data key: u16 length of what follows ‖ data key id(16) ‖ key section
const keyFileMagic = "\x89SK1"

// ParseKeyFile reads a whole file of re-wrapped keys. The answer aliases b.
// The error is an [ErrMalformed].
func ParseKeyFile(b []byte) ([]RewrappedKey, error) {
	if len(b) < len(keyFileMagic) || string(b[:len(keyFileMagic)]) != keyFileMagic {
		return nil, malformed("not a key file")
	}
	b = b[len(keyFileMagic):]
	var ks []RewrappedKey
	for len(b) > 0 {
		item, rest, ok := cutBytes16(b)
		if !ok {
			return nil, ErrTorn
		}
		if len(item) < 16 {
			return nil, malformed("key file entry of %d bytes", len(item))
		}
		rs, n, err := parseRecipients(item[16:])
		if err != nil {
			return nil, err
		}
		if 16+n != len(item) {
			return nil, malformed("%d bytes follow a key section", len(item)-16-n)
		}
		ks = append(ks, RewrappedKey{[16]byte(item), rs})
		b = rest
	}
	return ks, nil
}

// MarshalKeyFile returns the file that holds ks.
func MarshalKeyFile(ks []RewrappedKey) ([]byte, error) {
	b := []byte(keyFileMagic)
	for _, k := range ks {
		at := len(b)
		b = append(b, 0, 0)
		b = append(b, k.DEKID[:]...)
		var err error
		if b, err = appendRecipients(b, k.Recipients); err != nil {
			return nil, err
		}
		binary.BigEndian.PutUint16(b[at:], uint16(len(b)-at-2))
	}
	return b, nil
}
