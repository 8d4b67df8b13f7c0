package spread

import (
	"encoding/hex"
	"testing"
	"time"

	"github.com/polykv/polykv/kv/memberlist/internal/state"
)

// What is on the wire is a contract with nodes of other versions. If one of
// these changes, wireVersion must too.

var (
	goldenE = state.Version{Wall: 0x0123456789ab, Counter: 1, Instance: 0xe0e1e2e3e4e5e6e7}
	goldenV = state.Version{Wall: 0x0123456789ac, Counter: 2, Instance: 0xf0f1f2f3f4f5f6f7}
	goldenD = state.Digest{Hi: 0xd0d1d2d3d4d5d6d7, Lo: 0xd8d9dadbdcdddedf}
)

const goldenInstance = 0xa0a1a2a3a4a5a6a7

func goldenItems() []item {
	return []item{
		{Update: state.Update{Key: "a/b", Codec: "string", V: goldenV, Value: []byte("hi")}},
		{Update: state.Update{Key: "gone", Codec: "string", E: goldenE}},
		{Update: state.Update{Key: "map", Codec: "m", E: goldenE, V: goldenV, Value: []byte{1, 2, 3}, Partial: true}},
		{Update: state.Update{Key: "big", Codec: "m", V: goldenV}, announced: true, size: 8 << 20},
	}
}

func goldenPush() []byte {
	b := appendPush(appendHeader(nil, framePush, goldenInstance), 300, pushRelay)
	codec := ""
	for _, it := range goldenItems() {
		b = appendItem(b, &it, codec)
		codec = it.Codec
	}
	return b
}

func goldenRefusal() []byte {
	return appendRefusal(appendHeader(nil, frameRefused, goldenInstance), refusal{
		clock: time.UnixMilli(1_700_000_000_000),
		keys:  []refusedKey{{"k", goldenE, goldenV}},
	})
}

func goldenList() digestList {
	return digestList{wall: time.UnixMilli(1_700_000_000_000), seq: 300, claim: goldenV, roots: []codecRoot{{7, goldenD}}}
}

func goldenStanding() standing {
	return standing{
		instance: goldenInstance, name: "node-1", codecs: []state.CodecDigest{{Codec: "string", Root: goldenD}},
		context: state.Context{
			Marks: map[uint64]state.Mark{goldenV.Instance: {UpTo: goldenV, Left: true}},
			Dots:  map[state.Version]struct{}{goldenE: {}},
		},
	}
}

func goldenPull() pullRequest {
	return pullRequest{
		instance: goldenInstance, codec: "m", size: 8 << 20,
		have: state.KeyDigest{Key: "big", V: goldenV, Digest: goldenD},
	}
}

func TestGolden(t *testing.T) {
	standing, pull := goldenStanding(), goldenPull()
	cases := []struct {
		name string
		got  []byte
		want string
	}{
		{
			"push", goldenPush(), "0201a0a1a2a3a4a5a6a7" + "ac0201" +
				"04" + "06737472696e67" + "03612f62" + "0123456789ac0002f0f1f2f3f4f5f6f7" + "026869" +
				"0a" + "04676f6e65" + "0123456789ab0001e0e1e2e3e4e5e6e7" + "00" +
				"07" + "016d" + "036d6170" + "0123456789ab0001e0e1e2e3e4e5e6e7" + "0123456789ac0002f0f1f2f3f4f5f6f7" + "03010203" +
				"1c" + "03626967" + "0123456789ac0002f0f1f2f3f4f5f6f7" + "80808004",
		},
		{
			"tail", appendLastFrames(appendPush(appendHeader(nil, frameTail, goldenInstance), 300, pushBehind), []lastFrame{{7, 300}}),
			"0202a0a1a2a3a4a5a6a7" + "ac0202" + "0000000000000007" + "ac02",
		},
		{"ask", appendSpan(appendHeader(nil, frameAsk, goldenInstance), span{300, 302}), "0203a0a1a2a3a4a5a6a7" + "ac0202"},
		{"refused", goldenRefusal(), "0207a0a1a2a3a4a5a6a7" + "80d095ffbc31" + "016b" + "0123456789ab0001e0e1e2e3e4e5e6e7" + "0123456789ac0002f0f1f2f3f4f5f6f7"},
		{"digests", appendDigestList(nil, goldenList()), "80d095ffbc31" + "ac02" + "0123456789ac0002f0f1f2f3f4f5f6f7" + "01" + "0000000000000007" + "d0d1d2d3d4d5d6d7d8d9dadbdcdddedf"},
		{
			"standing", appendStanding(nil, &standing),
			"a0a1a2a3a4a5a6a7" + "066e6f64652d31" + "01" + "06737472696e67" + "d0d1d2d3d4d5d6d7d8d9dadbdcdddedf" +
				"01" + "0123456789ac0002f0f1f2f3f4f5f6f7" + "01" + "01" + "0123456789ab0001e0e1e2e3e4e5e6e7",
		},
		{"pull", appendPull(nil, &pull), "a0a1a2a3a4a5a6a7" + "016d" + "80808004" + "06" + "03626967" + "0123456789ac0002f0f1f2f3f4f5f6f7" + "d0d1d2d3d4d5d6d7d8d9dadbdcdddedf"},
		{"bucket list", appendBucketList(nil, "m", []int{0, 255}), "016d00ff"},
	}
	for _, c := range cases {
		if got := hex.EncodeToString(c.got); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
}
