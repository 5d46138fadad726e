package reader

import (
	"encoding/hex"
	"fmt"
	"slices"

	"sealtail/seal"
)

// trust divides the nodes into those of trusted signers, which make the
// chain, and strays, which it reports.
func (w *walk) trust() {
	nodes := make([]*node, 0, len(w.s.nodes))
	for _, n := range w.s.nodes {
		nodes = append(nodes, n)
	}
	slices.SortFunc(nodes, (*node).order)
	w.s.trusted = nil
	var kind Kind
	var detail string
	judge := w.firstUse()
	if w.r.o.Signers != nil {
		judge = w.listed()
	}
	for _, n := range nodes {
		if kind, detail = judge(n); kind == "" {
			w.s.trusted = append(w.s.trusted, n)
			continue
		}
		w.others = append(w.others, *n.span())
		w.find(Finding{Kind: kind, Span: n.span(), Places: w.places(n), Detail: detail})
	}
	w.report.Envelopes = len(w.s.trusted)
	for _, f := range w.r.faults {
		if f.claims != nil && f.claims.stream == w.s.id {
			w.others = append(w.others, f.claims.Span)
		}
	}
	slices.SortFunc(w.others, func(a, b Span) int { return b.compare(a, b.From) })
	w.others = slices.Compact(w.others)
}

// listed judges by the signers given: all of a stream must be one host's.
func (w *walk) listed() func(*node) (Kind, string) {
	hosts := make(map[[32]byte]string)
	for _, k := range w.r.o.Signers {
		hosts[k.Signer()] = k.Host
	}
	first := ""
	return func(n *node) (Kind, string) {
		host, known := hosts[n.signer]
		switch {
		case !known:
			return UnknownSigner, fmt.Sprintf("signer %x is not among those given", n.signer)
		case first == "":
			first = host
			w.report.Signers = append(w.report.Signers, host)
		case first != host:
			return SignerChange, fmt.Sprintf("signed by %s, the stream is %s's", host, first)
		}
		return "", ""
	}
}

// firstUse judges by the signer remembered, else the first met, of each suite.
func (w *walk) firstUse() func(*node) (Kind, string) {
	signers := make(map[seal.Suite][32]byte)
	if m, ok := w.r.o.State.get(w.s.id); ok {
		for suite, signer := range m.signers {
			signers[suite] = signer
		}
	}
	named := make(map[[32]byte]bool)
	return func(n *node) (Kind, string) {
		signer, known := signers[n.suite]
		if !known {
			signer = n.signer
			signers[n.suite] = signer
		}
		if n.signer != signer {
			return SignerChange, fmt.Sprintf("signed by %x, the stream is %x's; not opened unless given as a signer", n.signer, signer)
		}
		if !named[signer] {
			named[signer] = true
			w.report.Signers = append(w.report.Signers, hex.EncodeToString(signer[:]))
		}
		return "", ""
	}
}
