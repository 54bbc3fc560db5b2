/* Convolution and fully connected layers with two multiply-accumulates an instruction and two weights a halfword.
 *
 * Inputs are unpacked once to 16 bits (a "column": all values under the filter, in filter order) and reused for every
 * output channel. Weights of two output channels a and b share a halfword: h = 256 * b + a. With s = sum(h * x) and
 * a0 = sum(a * x), where a is the sign-extended low byte of h, sum(b * x) is (s - a0) / 256. So one load and one
 * unpacking serve four weights. Modulo 2^32 the division is exact for |sum(b * x)| < 2^23, which holds for up to 512
 * terms (512 * 128 * 127); longer columns are taken in chunks.
 *
 * Layout of the weights: for each pair of channels, halfwords in filter order, padded with 0 to a multiple of four. */
#include "tw_dsp.h"
#include "tw_kernels.h"

#define CHUNK 512

/* Sign-extends `count` bytes to halfwords, in order; returns the end. */
static int16_t *unpack(const int8_t *from, int16_t *to, int32_t count) {
    for (; count >= 4; count -= 4, from += 4, to += 4) {
        const uint32_t bytes = tw_load4(from);
        const uint32_t even = tw_sxtb16(bytes), odd = tw_sxtb16_ror8(bytes);
        tw_store2x16(to, tw_pkhbt(even, odd));
        tw_store2x16(to + 2, tw_pkhtb(odd, even));
    }
    for (; count > 0; count--) {
        *to++ = *from++;
    }
    return to;
}

static int16_t *fill(int16_t value, int16_t *to, int32_t count) {
    for (; count > 0; count--) {
        *to++ = value;
    }
    return to;
}

/* The column under the filter whose top left corner is at (y0, x0); outside the image lies in_zero. */
static void gather(const tw_conv_params *p, const int8_t *image, int32_t y0, int32_t x0, int16_t *column) {
    const int32_t row = p->filter_w * p->in_c;
    int16_t *const start = column;
    for (int32_t fy = 0; fy < p->filter_h; fy++) {
        const int32_t y = y0 + fy * p->dilation_h;
        if (y < 0 || y >= p->in_h) {
            column = fill((int16_t)p->in_zero, column, row);
        } else if (p->dilation_w == 1 && x0 >= 0 && x0 + p->filter_w <= p->in_w) {
            column = unpack(image + (y * p->in_w + x0) * p->in_c, column, row);
        } else {
            for (int32_t fx = 0; fx < p->filter_w; fx++) {
                const int32_t x = x0 + fx * p->dilation_w;
                column = x < 0 || x >= p->in_w ? fill((int16_t)p->in_zero, column, p->in_c)
                                               : unpack(image + (y * p->in_w + x) * p->in_c, column, p->in_c);
            }
        }
    }
    fill(0, column, (int32_t)(start - column) & 3);
}

/* Sums of one pair of channels over two columns, or of two pairs over one. */
typedef struct {
    int32_t a0, b0, a1, b1;
} quad;

static inline int32_t second(int32_t both, int32_t first) { return (int32_t)((uint32_t)both - (uint32_t)first) >> 8; }

/* One pair of channels over two columns, at most CHUNK terms. */
static inline quad dot_pair_2(const int16_t *w, const int16_t *x, const int16_t *y, int32_t terms) {
    const int16_t *const end = w + terms;
    int32_t s0 = 0, s1 = 0, a0 = 0, a1 = 0;
    do {
        uint32_t w0, w1, x0, x1, y0, y1;
        tw_next4x16(&w, &w0, &w1);
        tw_next4x16(&x, &x0, &x1);
        tw_next4x16(&y, &y0, &y1);
        s0 = tw_smlad(w0, x0, s0);
        s1 = tw_smlad(w0, y0, s1);
        s0 = tw_smlad(w1, x1, s0);
        s1 = tw_smlad(w1, y1, s1);
        w0 = tw_sxtb16(w0);
        w1 = tw_sxtb16(w1);
        a0 = tw_smlad(w0, x0, a0);
        a1 = tw_smlad(w0, y0, a1);
        a0 = tw_smlad(w1, x1, a0);
        a1 = tw_smlad(w1, y1, a1);
    } while (w != end);
    return (quad){a0, second(s0, a0), a1, second(s1, a1)};
}

/* Two pairs of channels, weights w and v, over one column, at most CHUNK terms. A function of its own, so that the
 * loop has all registers to itself. */
static quad __attribute__((noinline)) dot_pairs_1(const int16_t *w, const int16_t *v, const int16_t *x, int32_t terms) {
    const int16_t *const end = w + terms;
    int32_t s0 = 0, s1 = 0, a0 = 0, a1 = 0;
    do {
        uint32_t w0, w1, x0, x1;
        tw_next4x16(&x, &x0, &x1);
        tw_next4x16(&w, &w0, &w1);
        s0 = tw_smlad(w0, x0, s0);
        s0 = tw_smlad(w1, x1, s0);
        a0 = tw_smlad(tw_sxtb16(w0), x0, a0);
        a0 = tw_smlad(tw_sxtb16(w1), x1, a0);
        tw_next4x16(&v, &w0, &w1);
        s1 = tw_smlad(w0, x0, s1);
        s1 = tw_smlad(w1, x1, s1);
        a1 = tw_smlad(tw_sxtb16(w0), x0, a1);
        a1 = tw_smlad(tw_sxtb16(w1), x1, a1);
    } while (w != end);
    return (quad){a0, second(s0, a0), a1, second(s1, a1)};
}

static inline quad plus(quad p, quad q) { return (quad){p.a0 + q.a0, p.b0 + q.b0, p.a1 + q.a1, p.b1 + q.b1}; }

/* What lies behind the first chunk. */
static quad rest_pair_2(const int16_t *w, const int16_t *x, const int16_t *y, int32_t terms) {
    quad sums = {0, 0, 0, 0};
    for (int32_t at = CHUNK; at < terms; at += CHUNK) {
        const int32_t now = terms - at < CHUNK ? terms - at : CHUNK;
        sums = plus(sums, dot_pair_2(w + at, x + at, y + at, now));
    }
    return sums;
}

static quad rest_pairs_1(const int16_t *w, const int16_t *v, const int16_t *x, int32_t terms) {
    quad sums = {0, 0, 0, 0};
    for (int32_t at = CHUNK; at < terms; at += CHUNK) {
        const int32_t now = terms - at < CHUNK ? terms - at : CHUNK;
        sums = plus(sums, dot_pairs_1(w + at, v + at, x + at, now));
    }
    return sums;
}

static void two_pixels(const tw_conv_params *p, const int16_t *columns, int32_t terms, int8_t *out) {
    const int16_t *w = p->weights;
    const tw_fast_channel *channel = p->channels;
    int8_t *next = out + p->out_c;
    for (int32_t left = p->out_c; left > 0; left -= 2, w += terms) {
        quad sums = dot_pair_2(w, columns, columns + terms, terms < CHUNK ? terms : CHUNK);
        if (terms > CHUNK) {
            sums = plus(sums, rest_pair_2(w, columns, columns + terms, terms));
        }
        const tw_factors a = tw_next_factors(&channel);
        *out++ = tw_finish(a, sums.a0);
        *next++ = tw_finish(a, sums.a1);
        if (left > 1) {
            const tw_factors b = tw_next_factors(&channel);
            *out++ = tw_finish(b, sums.b0);
            *next++ = tw_finish(b, sums.b1);
        }
    }
}

static void one_pixel(const tw_conv_params *p, const int16_t *column, int32_t terms, int8_t *out) {
    const int16_t *w = p->weights;
    const tw_fast_channel *channel = p->channels;
    for (int32_t left = p->out_c; left > 0; left -= 4, w += 2 * terms) {
        const int16_t *v = left > 2 ? w + terms : w; /* a last pair alone is computed twice */
        quad sums = dot_pairs_1(w, v, column, terms < CHUNK ? terms : CHUNK);
        if (terms > CHUNK) {
            sums = plus(sums, rest_pairs_1(w, v, column, terms));
        }
        *out++ = tw_finish(tw_next_factors(&channel), sums.a0);
        if (left > 1) {
            *out++ = tw_finish(tw_next_factors(&channel), sums.b0);
        }
        if (left > 2) {
            *out++ = tw_finish(tw_next_factors(&channel), sums.a1);
        }
        if (left > 3) {
            *out++ = tw_finish(tw_next_factors(&channel), sums.b1);
        }
    }
}

void tw_conv2d_fast(const tw_conv_params *p, const int8_t *in, int8_t *out, int16_t *columns) {
    const int32_t terms = (p->filter_h * p->filter_w * p->in_c + 3) & ~3;
    int8_t *const start = out;
    int32_t waiting = 0;
    for (int32_t n = 0; n < p->batch; n++) {
        const int8_t *image = in + n * p->in_h * p->in_w * p->in_c;
        for (int32_t y = 0; y < p->out_h; y++) {
            for (int32_t x = 0; x < p->out_w; x++) {
                gather(p, image, y * p->stride_h - p->pad_h, x * p->stride_w - p->pad_w, columns + waiting * terms);
                if (++waiting == 2) {
                    two_pixels(p, columns, terms, out);
                    out += 2 * p->out_c;
                    waiting = 0;
                }
            }
        }
    }
    if (waiting) {
        one_pixel(p, columns, terms, out);
        out += p->out_c;
    }
    tw_clamp_all(start, (int32_t)(out - start), p->low, p->high);
}
