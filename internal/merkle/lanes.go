package merkle

import (
	"crypto/sha256"
	"encoding/binary"
)

// Many messages are hashed in two lanes side by side where the processor can do
// that (blocks_amd64.s), which takes half the time (BenchmarkHashAll), and
// otherwise one after the other with crypto/sha256. The lanes are compared with
// that before they are used. What is made of them is compared with hashes from
// crypto/sha256 that were signed: an error in them could refuse what is right,
// not accept what is wrong.

// HashAllPrefixed is [HashPrefixed] for each of msgs, into sums of the same
// length.
func HashAllPrefixed(sums []Hash, msgs [][]byte) {
	for _, m := range msgs {
		m[0] = leafPrefix
	}
	sumAll(sums, msgs)
}

// sumAll sets each of sums to the SHA-256 of its message.
func sumAll(sums []Hash, msgs [][]byte) {
	if !twoAtOnce() {
		for i, m := range msgs {
			sums[i] = sha256.Sum256(m)
		}
		return
	}
	sumLanes(sums, msgs)
}

// sumLanes is sumAll in two lanes. When one has done its message it takes the
// next, so that both have work until the last.
func sumLanes(sums []Hash, msgs [][]byte) {
	var lanes [2]lane
	a, b := &lanes[0], &lanes[1]
	next := 0
	for {
		for _, l := range []*lane{a, b} {
			if l.left == 0 && next < len(msgs) {
				l.begin(msgs[next], &sums[next])
				next++
			}
		}
		if a.left == 0 {
			a, b = b, a
		}
		switch {
		case a.left == 0:
			return
		case b.left == 0: // the last message: both lanes do the same
			blocks2(&a.h, &b.h, &a.p[0], &a.p[0], a.left)
			a.done(a.left)
		default:
			n := min(a.left, b.left)
			blocks2(&a.h, &b.h, &a.p[0], &b.p[0], n)
			a.done(n)
			b.done(n)
		}
	}
}

// state is the state of a SHA-256 in the order in which the processor has it:
// f, e, b, a, h, g, d, c.
type state [8]uint32

var initial = state{0x9b05688c, 0x510e527f, 0xbb67ae85, 0x6a09e667, 0x5be0cd19, 0x1f83d9ab, 0xa54ff53a, 0x3c6ef372}

// put writes the hash.
func (h *state) put(out *Hash) {
	for i, k := range [8]int{3, 2, 7, 6, 1, 0, 5, 4} {
		binary.BigEndian.PutUint32(out[4*i:], h[k])
	}
}

// lane hashes one message: its whole blocks where they are, and then what is
// left of it with the padding.
type lane struct {
	h     state
	p     []byte // the blocks that come next
	left  int    // how many; 0 if the lane has nothing to do
	out   *Hash
	ends  bool // they are the last ones
	tail  [2 * sha256.BlockSize]byte
	tails int // blocks in tail
}

func (l *lane) begin(msg []byte, out *Hash) {
	l.h, l.out, l.ends = initial, out, false
	whole := len(msg) / sha256.BlockSize
	l.p, l.left = msg, whole
	rest := msg[whole*sha256.BlockSize:]
	clear(l.tail[copy(l.tail[:], rest):])
	l.tail[len(rest)] = 0x80
	l.tails = 1
	if len(rest) >= sha256.BlockSize-8 {
		l.tails = 2
	}
	binary.BigEndian.PutUint64(l.tail[l.tails*sha256.BlockSize-8:], uint64(len(msg))*8)
	if whole == 0 {
		l.end()
	}
}

func (l *lane) end() { l.p, l.left, l.ends = l.tail[:], l.tails, true }

// done says that the first n blocks that were left are hashed.
func (l *lane) done(n int) {
	l.left -= n
	switch {
	case l.left > 0:
		l.p = l.p[n*sha256.BlockSize:]
	case l.ends:
		l.h.put(l.out)
	default:
		l.end()
	}
}

// lanesWork compares the lanes with crypto/sha256, for messages of each number
// of blocks and bytes in the last one.
func lanesWork() bool {
	var msgs [][]byte
	text := make([]byte, 3*sha256.BlockSize)
	for i := range text {
		text[i] = byte(i * 7)
		msgs = append(msgs, text[:i])
	}
	sums := make([]Hash, len(msgs))
	sumLanes(sums, msgs)
	for i, m := range msgs {
		if sha256.Sum256(m) != sums[i] {
			return false
		}
	}
	return true
}

// hashPairs sets each of nodes to the hash of two neighbours below. Nodes may
// be the first half of below.
func hashPairs(nodes, below []Hash) {
	if len(nodes) == 1 || !twoAtOnce() {
		for i := range nodes {
			nodes[i] = HashNode(below[2*i], below[2*i+1])
		}
		return
	}
	// A prefix, two hashes, and the padding of a message of 65 bytes.
	const size = 1 + 2*sha256.Size
	var msg [2][2 * sha256.BlockSize]byte
	for k := range msg {
		msg[k][0], msg[k][size] = nodePrefix, 0x80
		binary.BigEndian.PutUint64(msg[k][2*sha256.BlockSize-8:], size*8)
	}
	for i := 0; i < len(nodes); i += 2 {
		h := [2]state{initial, initial}
		n := min(2, len(nodes)-i)
		for k := range n {
			copy(msg[k][1:], below[2*(i+k)][:])
			copy(msg[k][1+sha256.Size:], below[2*(i+k)+1][:])
		}
		blocks2(&h[0], &h[1], &msg[0][0], &msg[1][0], 2)
		for k := range n {
			h[k].put(&nodes[i+k])
		}
	}
}
