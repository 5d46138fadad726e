package main

import (
	"reflect"
	"testing"
	"time"

	"sealtail/record"
	"sealtail/status"
)

// Losses are those of before the line, those that it told, and those that wait
// to be told; recent are all that are no older than a day or wait.
func TestLosses(t *testing.T) {
	now := time.Date(2026, 11, 25, 12, 30, 0, 0, time.UTC)
	const why = "deleted unread"
	lost := func(ps *record.Positions, hours int, bytes int64) {
		ps.Put([]record.Position{{
			Path: why, Lost: record.Lost{Ranges: 1, Bytes: bytes}, Closed: now.Add(time.Duration(hours) * time.Hour).Unix(), Forget: true,
		}})
	}
	deleted := func(ranges, bytes int64) (l status.Loss) {
		l.Add(why, ranges, bytes)
		return l
	}
	type own = map[string]record.Lost
	for _, tt := range []struct {
		name                string
		before              []int // hours of losses of 1 byte
		told                []int // since
		own                 own
		all, untold, recent status.Loss
	}{
		{"none", nil, nil, nil, deleted(0, 0), deleted(0, 0), deleted(0, 0)},
		{"before the line", []int{-25, -24, -1}, nil, nil, deleted(3, 3), deleted(0, 0), deleted(2, 2)},
		{"told", []int{-30}, []int{0}, own{why: {Ranges: 1, Bytes: 1}}, deleted(2, 2), deleted(0, 0), deleted(1, 1)},
		{"told, and the tailer's count is older", nil, []int{0}, nil, deleted(1, 1), deleted(0, 0), deleted(1, 1)},
		{"not told yet", []int{-30}, nil, own{why: {Bytes: 7}}, deleted(1, 8), deleted(0, 7), deleted(0, 7)},
		{"told long ago, and not told yet", nil, []int{-30}, own{why: {Ranges: 1, Bytes: 8}}, deleted(1, 8), deleted(0, 7), deleted(0, 7)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var ps record.Positions
			for _, h := range tt.before {
				lost(&ps, h, 1)
			}
			before := ps.Losses()
			for _, h := range tt.told {
				lost(&ps, h, 1)
			}
			all, untold, recent := losses(before, ps.Losses(), tt.own, now)
			if !reflect.DeepEqual([]status.Loss{all, untold, recent}, []status.Loss{tt.all, tt.untold, tt.recent}) {
				t.Errorf("got %+v, untold %+v, recent %+v, want %+v, %+v, %+v", all, untold, recent, tt.all, tt.untold, tt.recent)
			}
		})
	}
}
