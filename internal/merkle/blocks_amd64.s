//go:build !purego

#include "textflag.h"

// SHA-256 (FIPS 180-4) of two messages at once with the SHA extensions. Each
// round of one waits for the one before it, so a processor that does two
// messages side by side is idle half as much.
//
// X1, X2 and X7, X8 are the working variables of the two: ABEF and CDGH, as
// SHA256RNDS2 has them. X3 to X6 and X9 to X12 are the last sixteen words of
// their message schedules. X0 is what SHA256RNDS2 adds.

// ROUNDS4 does four rounds of one message: w are the words of the schedule, k
// the place of the constants.
#define ROUNDS4(k, w, abef, cdgh) \
	MOVOU  k(AX), X0; \
	PADDD  w, X0; \
	SHA256RNDS2 X0, abef, cdgh; \
	PSHUFD $0x0e, X0, X0; \
	SHA256RNDS2 X0, cdgh, abef

// SCHEDULE replaces w0, the words of sixteen rounds before, by the next four.
#define SCHEDULE(w0, w1, w2, w3, tmp) \
	SHA256MSG1 w1, w0; \
	MOVO    w3, tmp; \
	PALIGNR $4, w2, tmp; \
	PADDD   tmp, w0; \
	SHA256MSG2 w3, w0

#define BOTH(k, a, b) \
	ROUNDS4(k, a, X1, X2); \
	ROUNDS4(k, b, X7, X8)

// func blocks2(h0, h1 *state, p0, p1 *byte, n int)
// Requires: SHA, SSE4.1, SSSE3
TEXT ·blocks2(SB), NOSPLIT, $0-40
	MOVQ h0+0(FP), R8
	MOVQ h1+8(FP), R9
	MOVQ p0+16(FP), SI
	MOVQ p1+24(FP), DI
	MOVQ n+32(FP), CX
	LEAQ constants<>(SB), AX
	MOVOU swap<>(SB), X15
	MOVOU (R8), X1
	MOVOU 16(R8), X2
	MOVOU (R9), X7
	MOVOU 16(R9), X8

next:
	TESTQ CX, CX
	JZ    done
	MOVOU 0(SI), X3
	PSHUFB X15, X3
	MOVOU 0(DI), X9
	PSHUFB X15, X9
	MOVOU 16(SI), X4
	PSHUFB X15, X4
	MOVOU 16(DI), X10
	PSHUFB X15, X10
	MOVOU 32(SI), X5
	PSHUFB X15, X5
	MOVOU 32(DI), X11
	PSHUFB X15, X11
	MOVOU 48(SI), X6
	PSHUFB X15, X6
	MOVOU 48(DI), X12
	PSHUFB X15, X12
	BOTH(0, X3, X9)
	BOTH(16, X4, X10)
	BOTH(32, X5, X11)
	BOTH(48, X6, X12)
	SCHEDULE(X3, X4, X5, X6, X13)
	SCHEDULE(X9, X10, X11, X12, X14)
	BOTH(64, X3, X9)
	SCHEDULE(X4, X5, X6, X3, X13)
	SCHEDULE(X10, X11, X12, X9, X14)
	BOTH(80, X4, X10)
	SCHEDULE(X5, X6, X3, X4, X13)
	SCHEDULE(X11, X12, X9, X10, X14)
	BOTH(96, X5, X11)
	SCHEDULE(X6, X3, X4, X5, X13)
	SCHEDULE(X12, X9, X10, X11, X14)
	BOTH(112, X6, X12)
	SCHEDULE(X3, X4, X5, X6, X13)
	SCHEDULE(X9, X10, X11, X12, X14)
	BOTH(128, X3, X9)
	SCHEDULE(X4, X5, X6, X3, X13)
	SCHEDULE(X10, X11, X12, X9, X14)
	BOTH(144, X4, X10)
	SCHEDULE(X5, X6, X3, X4, X13)
	SCHEDULE(X11, X12, X9, X10, X14)
	BOTH(160, X5, X11)
	SCHEDULE(X6, X3, X4, X5, X13)
	SCHEDULE(X12, X9, X10, X11, X14)
	BOTH(176, X6, X12)
	SCHEDULE(X3, X4, X5, X6, X13)
	SCHEDULE(X9, X10, X11, X12, X14)
	BOTH(192, X3, X9)
	SCHEDULE(X4, X5, X6, X3, X13)
	SCHEDULE(X10, X11, X12, X9, X14)
	BOTH(208, X4, X10)
	SCHEDULE(X5, X6, X3, X4, X13)
	SCHEDULE(X11, X12, X9, X10, X14)
	BOTH(224, X5, X11)
	SCHEDULE(X6, X3, X4, X5, X13)
	SCHEDULE(X12, X9, X10, X11, X14)
	BOTH(240, X6, X12)
	MOVOU (R8), X13
	PADDD X13, X1
	MOVOU 16(R8), X14
	PADDD X14, X2
	MOVOU (R9), X13
	PADDD X13, X7
	MOVOU 16(R9), X14
	PADDD X14, X8
	MOVOU X1, (R8)
	MOVOU X2, 16(R8)
	MOVOU X7, (R9)
	MOVOU X8, 16(R9)
	ADDQ  $64, SI
	ADDQ  $64, DI
	DECQ  CX
	JMP   next

done:
	RET

// func cpuid(leaf, sub uint32) (eax, ebx, ecx uint32)
TEXT ·cpuid(SB), NOSPLIT, $0-20
	MOVL leaf+0(FP), AX
	MOVL sub+4(FP), CX
	CPUID
	MOVL AX, eax+8(FP)
	MOVL BX, ebx+12(FP)
	MOVL CX, ecx+16(FP)
	RET

// swap makes big-endian words of bytes.
DATA swap<>+0(SB)/8, $0x0405060700010203
DATA swap<>+8(SB)/8, $0x0c0d0e0f08090a0b
GLOBL swap<>(SB), RODATA|NOPTR, $16

DATA constants<>+0(SB)/4, $0x428a2f98
DATA constants<>+4(SB)/4, $0x71374491
DATA constants<>+8(SB)/4, $0xb5c0fbcf
DATA constants<>+12(SB)/4, $0xe9b5dba5
DATA constants<>+16(SB)/4, $0x3956c25b
DATA constants<>+20(SB)/4, $0x59f111f1
DATA constants<>+24(SB)/4, $0x923f82a4
DATA constants<>+28(SB)/4, $0xab1c5ed5
DATA constants<>+32(SB)/4, $0xd807aa98
DATA constants<>+36(SB)/4, $0x12835b01
DATA constants<>+40(SB)/4, $0x243185be
DATA constants<>+44(SB)/4, $0x550c7dc3
DATA constants<>+48(SB)/4, $0x72be5d74
DATA constants<>+52(SB)/4, $0x80deb1fe
DATA constants<>+56(SB)/4, $0x9bdc06a7
DATA constants<>+60(SB)/4, $0xc19bf174
DATA constants<>+64(SB)/4, $0xe49b69c1
DATA constants<>+68(SB)/4, $0xefbe4786
DATA constants<>+72(SB)/4, $0x0fc19dc6
DATA constants<>+76(SB)/4, $0x240ca1cc
DATA constants<>+80(SB)/4, $0x2de92c6f
DATA constants<>+84(SB)/4, $0x4a7484aa
DATA constants<>+88(SB)/4, $0x5cb0a9dc
DATA constants<>+92(SB)/4, $0x76f988da
DATA constants<>+96(SB)/4, $0x983e5152
DATA constants<>+100(SB)/4, $0xa831c66d
DATA constants<>+104(SB)/4, $0xb00327c8
DATA constants<>+108(SB)/4, $0xbf597fc7
DATA constants<>+112(SB)/4, $0xc6e00bf3
DATA constants<>+116(SB)/4, $0xd5a79147
DATA constants<>+120(SB)/4, $0x06ca6351
DATA constants<>+124(SB)/4, $0x14292967
DATA constants<>+128(SB)/4, $0x27b70a85
DATA constants<>+132(SB)/4, $0x2e1b2138
DATA constants<>+136(SB)/4, $0x4d2c6dfc
DATA constants<>+140(SB)/4, $0x53380d13
DATA constants<>+144(SB)/4, $0x650a7354
DATA constants<>+148(SB)/4, $0x766a0abb
DATA constants<>+152(SB)/4, $0x81c2c92e
DATA constants<>+156(SB)/4, $0x92722c85
DATA constants<>+160(SB)/4, $0xa2bfe8a1
DATA constants<>+164(SB)/4, $0xa81a664b
DATA constants<>+168(SB)/4, $0xc24b8b70
DATA constants<>+172(SB)/4, $0xc76c51a3
DATA constants<>+176(SB)/4, $0xd192e819
DATA constants<>+180(SB)/4, $0xd6990624
DATA constants<>+184(SB)/4, $0xf40e3585
DATA constants<>+188(SB)/4, $0x106aa070
DATA constants<>+192(SB)/4, $0x19a4c116
DATA constants<>+196(SB)/4, $0x1e376c08
DATA constants<>+200(SB)/4, $0x2748774c
DATA constants<>+204(SB)/4, $0x34b0bcb5
DATA constants<>+208(SB)/4, $0x391c0cb3
DATA constants<>+212(SB)/4, $0x4ed8aa4a
DATA constants<>+216(SB)/4, $0x5b9cca4f
DATA constants<>+220(SB)/4, $0x682e6ff3
DATA constants<>+224(SB)/4, $0x748f82ee
DATA constants<>+228(SB)/4, $0x78a5636f
DATA constants<>+232(SB)/4, $0x84c87814
DATA constants<>+236(SB)/4, $0x8cc70208
DATA constants<>+240(SB)/4, $0x90befffa
DATA constants<>+244(SB)/4, $0xa4506ceb
DATA constants<>+248(SB)/4, $0xbef9a3f7
DATA constants<>+252(SB)/4, $0xc67178f2
GLOBL constants<>(SB), RODATA|NOPTR, $256
