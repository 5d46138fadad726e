package seal

import "context"

// A Taken is a data key between take and release.
type Taken = dataKey

func (ks *Keys) Take(ctx context.Context, n int) (*Taken, error) { return ks.take(ctx, n) }

// SetRandom replaces the source of jitter; before Run only.
func (ks *Keys) SetRandom(f func() float64) { ks.life.random = f }

func (k *dataKey) DEK() []byte     { return k.dek() }
func (k *dataKey) ID() [16]byte    { return k.id }
func (k *dataKey) Section() []byte { return k.section }
func (k *dataKey) Release()        { k.release() }

// A Step is a step of the state machine, in words.
type Step struct{ From, Cause, Next, Do string }

// Steps returns the state machine's table.
func Steps() (steps []Step) {
	for from := Init; from <= Paused; from++ {
		for c := asked; c <= spent; c++ {
			if s, ok := table[from][c]; ok {
				steps = append(steps, Step{from.String(), causes[c], s.next.String(), actions[s.do]})
			}
		}
	}
	return steps
}

var (
	causes = [...]string{
		asked: "a call begins", alive: "a data key", outage: "outage", throttled: "throttled", misfit: "misfit",
		suspected: "revoked, first", revoked: "revoked, confirmed", aged: "too old", spent: "used up",
	}
	actions = [...]string{keep: "", take: "take", prove: "prove", wipe: "wipe"}
)
