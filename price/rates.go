package price

import (
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"
	"time"
)

// unit is a price of 1 USD per million tokens (or per thousand calls) as this
// package counts it: in nano-dollars for the same amount.
const unit = 1_000_000_000

// maxPrice bounds a price in USD, so that it fits 64 bits in units.
const maxPrice = 1_000_000_000

// class is a kind of thing that a call is charged for.
type class int

const (
	classInput class = iota
	classCacheRead
	classCacheWrite
	classCacheWrite1h
	classOutput
	classReasoning
	classRequest
	classes
)

// classNames are the classes as they are written in a file.
var classNames = [classes]string{"input", "cache_read", "cache_write", "cache_write_1h", "output", "reasoning", "request"}

// fallback is the class whose price is charged where a class has none.
var fallback = map[class]class{
	classCacheRead:    classInput,
	classCacheWrite:   classInput,
	classCacheWrite1h: classCacheWrite,
	classReasoning:    classOutput,
}

// rates are the prices of a model, by class; nil where there is none.
type rates [classes]*tiered

// tiered is a price that may depend on the length of the prompt.
type tiered struct {
	base  int64
	tiers []tier // by rising start
}

type tier struct {
	start int64 // holds for prompts of more tokens than this
	price int64
}

// datedRates are rates with the condition under which they hold.
type datedRates struct {
	from     time.Time // zero: always
	daily    bool      // only between the times of day (UTC) that follow
	start    time.Duration
	end      time.Duration // may lie before start: past midnight
	perClass rates
}

// ratesAt returns the last of the prices whose condition holds; the first one
// if none does, since a price of another time is the better guess than none.
func ratesAt(prices []datedRates, at time.Time) *rates {
	at = at.UTC()
	for i := len(prices) - 1; i > 0; i-- {
		if prices[i].holds(at) {
			return &prices[i].perClass
		}
	}
	return &prices[0].perClass
}

func (d *datedRates) holds(at time.Time) bool {
	if at.Before(d.from) {
		return false
	}
	if !d.daily {
		return true
	}
	y, m, day := at.Date()
	now := at.Sub(time.Date(y, m, day, 0, 0, 0, 0, time.UTC))
	if d.end < d.start {
		return now >= d.start || now < d.end
	}
	return now >= d.start && now < d.end
}

// price returns the price of a class, or that of the class it falls back to.
func (r *rates) price(c class) *tiered {
	for {
		if r[c] != nil {
			return r[c]
		}
		next, ok := fallback[c]
		if !ok {
			return nil
		}
		c = next
	}
}

func (t *tiered) at(prompt int64) int64 {
	price := t.base
	for _, tr := range t.tiers {
		if prompt > tr.start {
			price = tr.price
		}
	}
	return price
}

// cost returns what u costs in nano-dollars. It is false when a class of
// tokens has no price, or the usage or the sum is out of range.
func (r *rates) cost(u Usage) (int64, bool) {
	prompt, ok := promptTokens(u)
	if !ok {
		return 0, false
	}
	var sum uint128 // in 10⁻⁶ nano-dollars
	for c, n := range [classes]int64{
		classInput: u.Input, classCacheRead: u.CacheRead,
		classCacheWrite: u.CacheWrite - u.CacheWrite1h, classCacheWrite1h: u.CacheWrite1h,
		classOutput: u.Output, classReasoning: u.Reasoning,
	} {
		if n == 0 {
			continue
		}
		p := r.price(class(c))
		if p == nil || n < 0 || !sum.addProduct(uint64(n), uint64(p.at(prompt))) {
			return 0, false
		}
	}
	// A price of a thousand calls is a thousandth for one: 10³ in these units.
	if p := r[classRequest]; p != nil && !sum.addProduct(1000, uint64(p.at(prompt))) {
		return 0, false
	}
	return sum.million()
}

// promptTokens returns the length of the prompt, which tiers go by.
func promptTokens(u Usage) (int64, bool) {
	var sum int64
	for _, n := range []int64{u.Input, u.CacheRead, u.CacheWrite} {
		if n < 0 || sum > math.MaxInt64-n {
			return 0, false
		}
		sum += n
	}
	return sum, true
}

// uint128 is an unsigned integer of 128 bits.
type uint128 struct{ hi, lo uint64 }

// addProduct adds a·b and reports whether the sum fits.
func (s *uint128) addProduct(a, b uint64) bool {
	hi, lo := bits.Mul64(a, b)
	var carry uint64
	s.lo, carry = bits.Add64(s.lo, lo, 0)
	s.hi, carry = bits.Add64(s.hi, hi, carry)
	return carry == 0
}

// million returns s/10⁶, rounded half up, and whether it fits an int64.
func (s uint128) million() (int64, bool) {
	const m = 1_000_000
	lo, carry := bits.Add64(s.lo, m/2, 0)
	hi, carry := bits.Add64(s.hi, 0, carry)
	if carry != 0 || hi >= m {
		return 0, false
	}
	q, _ := bits.Div64(hi, lo, m)
	return int64(q), q <= math.MaxInt64
}

// parsePrice reads a price in USD as a plain decimal number of at most nine
// digits after the point, without going through a float.
func parsePrice(s string) (int64, error) {
	whole, frac, dotted := strings.Cut(s, ".")
	if strings.ContainsAny(s, "eE") {
		return 0, fmt.Errorf("price %s has an exponent: write it out", s)
	}
	if strings.HasPrefix(s, "-") {
		return 0, fmt.Errorf("price %s is negative", s)
	}
	if len(frac) > 9 {
		return 0, fmt.Errorf("price %s has more than 9 digits after the point", s)
	}
	if whole == "" || dotted && frac == "" || strings.Trim(whole+frac, "0123456789") != "" {
		return 0, fmt.Errorf("price %q is not a decimal number", s)
	}
	w, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || w >= maxPrice {
		return 0, fmt.Errorf("price %s is not below %d USD", s, maxPrice)
	}
	f, err := strconv.ParseInt((frac + "000000000")[:9], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("price %s: %w", s, err)
	}
	return w*unit + f, nil
}
