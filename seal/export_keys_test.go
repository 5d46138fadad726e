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
