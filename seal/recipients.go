package seal

import "encoding/binary"

// The key section is
//
//	u16 length of what follows ‖ u8 count
//	then count times: u8 type ‖ u16 length ‖ key id ‖ u16 length ‖ wrapped data key

// Types of recipients.
const (
	TypeAliKMS  uint8 = 1 // Alibaba Cloud KMS
	TypeGateway uint8 = 2 // reserved for KMS instance gateways' own API
	TypeSM2     uint8 = 3 // SM2 public key
	TypeTransit uint8 = 4 // Vault or OpenBao Transit
	TypeKeyring uint8 = 5 // symmetric key of a local keyring
	TypeHPKE    uint8 = 6 // HPKE public key
)

const (
	maxKeySection = 16 << 10 // with its length
	maxRecipients = 8
)

// appendRecipients appends the key section of rs to b.
func appendRecipients(b []byte, rs []Recipient) ([]byte, error) {
	if len(rs) == 0 || len(rs) > maxRecipients {
		return nil, malformed("%d recipients", len(rs))
	}
	n := 1
	for _, r := range rs {
		if r.Type < TypeAliKMS || r.Type > TypeHPKE {
			return nil, malformed("recipient of type %d", r.Type)
		}
		n += 1 + 2 + len(r.KeyID) + 2 + len(r.Wrapped)
	}
	if 2+n > maxKeySection {
		return nil, malformed("key section of %d bytes", 2+n)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(n))
	b = append(b, uint8(len(rs)))
	for _, r := range rs {
		b = append(b, r.Type)
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(r.KeyID))), r.KeyID...)
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(r.Wrapped))), r.Wrapped...)
	}
	return b, nil
}

// parseRecipients reads the key section that b begins with, and returns its
// recipients, which alias b, and its length.
func parseRecipients(b []byte) (rs []Recipient, n int, err error) {
	if len(b) < 2 {
		return nil, 0, ErrTorn
	}
	n = 2 + int(binary.BigEndian.Uint16(b))
	if n > maxKeySection || n < 3 {
		return nil, 0, malformed("key section of %d bytes", n)
	}
	if len(b) < n {
		return nil, 0, ErrTorn
	}
	count, b := int(b[2]), b[3:n]
	if count == 0 || count > maxRecipients {
		return nil, 0, malformed("%d recipients", count)
	}
	rs = make([]Recipient, count)
	for i := range rs {
		r := &rs[i]
		if len(b) == 0 {
			return nil, 0, malformed("key section shorter than its recipients")
		}
		r.Type, b = b[0], b[1:]
		if r.Type < TypeAliKMS || r.Type > TypeHPKE {
			return nil, 0, malformed("recipient of type %d", r.Type)
		}
		for _, field := range []*[]byte{&r.KeyID, &r.Wrapped} {
			var ok bool
			if *field, b, ok = cutBytes16(b); !ok {
				return nil, 0, malformed("key section shorter than its recipients")
			}
		}
	}
	if len(b) != 0 {
		return nil, 0, malformed("key section longer than its recipients")
	}
	return rs, n, nil
}

// cutBytes16 cuts a u16 length and as many bytes off b.
func cutBytes16(b []byte) (field, rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, nil, false
	}
	n := 2 + int(binary.BigEndian.Uint16(b))
	if len(b) < n {
		return nil, nil, false
	}
	return b[2:n:n], b[n:], true
}
