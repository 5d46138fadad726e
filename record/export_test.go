package record

// AppendGroups is the inverse of Decode, for tests.
func AppendGroups(b []byte, groups []Group) []byte {
	for _, g := range groups {
		var body []byte
		for _, l := range g.Logs {
			body = append(body, lengthed(0x0a, appendLogFields(nil, l))...)
		}
		for _, t := range g.Tags {
			body = appendTag(body, t.Key, t.Value)
		}
		b = append(b, lengthed(0x0a, body)...)
	}
	return b
}

func appendLogFields(b []byte, l Log) []byte {
	b = append(b, 0x08)
	b = appendUvarint(b, uint64(l.Time/1e9))
	for _, f := range l.Fields {
		b = appendPair(b, 0x12, f.Key, f.Value)
	}
	return appendTimeNs(b, l.Time)
}

func lengthed(field byte, v []byte) []byte {
	return append(appendUvarint([]byte{field}, uint64(len(v))), v...)
}

func appendUvarint(b []byte, v uint64) []byte {
	for ; v >= 0x80; v >>= 7 {
		b = append(b, byte(v)|0x80)
	}
	return append(b, byte(v))
}
