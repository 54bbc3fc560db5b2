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
#include "tw_math.h"

#define CHUNK 512

/* Sign-extends `count` bytes to halfwords, in order; returns the end. */
static int16_t *unpack(const int8_t *from, int16_t *to, int32_t count) {
    for (; count >= 4; count -= 4, from += 4, to += 4) {
        const uint32_t bytes = tw_load4(from);
        const uint32_t even = tw_sxtb16(bytes), odd = tw_sxtb16_ror8(bytes);
        const uint32_t words[2] = {tw_pkhbt(even, odd), tw_pkhtb(odd, even)};
        memcpy(to, words, sizeof words);
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

static inline int8_t finish(const tw_conv_params *p, const tw_channel *channel, int32_t sum) {
    const int32_t scaled = tw_multiply_fast(channel->bias + sum, channel->multiplier, channel->shift);
    return (int8_t)tw_clamp(scaled + p->out_zero, p->low, p->high);
}

static inline int32_t high_sum(int32_t both, int32_t low) { return (int32_t)((uint32_t)both - (uint32_t)low) >> 8; }

/* One pair of channels over two columns. */
static inline void dot_pair_2(const int16_t *w, const int16_t *x0, const int16_t *x1, int32_t terms, int32_t sums[4]) {
    sums[0] = sums[1] = sums[2] = sums[3] = 0;
    while (terms > 0) {
        const int32_t now = terms < CHUNK ? terms : CHUNK;
        const int16_t *const end = w + now;
        int32_t s0 = 0, s1 = 0, a0 = 0, a1 = 0;
        do {
            const uint32_t w0 = tw_load2x16(w), w1 = tw_load2x16(w + 2);
            const uint32_t x00 = tw_load2x16(x0), x01 = tw_load2x16(x0 + 2);
            const uint32_t x10 = tw_load2x16(x1), x11 = tw_load2x16(x1 + 2);
            s0 = tw_smlad(w0, x00, s0);
            s1 = tw_smlad(w0, x10, s1);
            s0 = tw_smlad(w1, x01, s0);
            s1 = tw_smlad(w1, x11, s1);
            const uint32_t l0 = tw_sxtb16(w0), l1 = tw_sxtb16(w1);
            a0 = tw_smlad(l0, x00, a0);
            a1 = tw_smlad(l0, x10, a1);
            a0 = tw_smlad(l1, x01, a0);
            a1 = tw_smlad(l1, x11, a1);
            w += 4, x0 += 4, x1 += 4;
        } while (w != end);
        sums[0] += a0, sums[1] += high_sum(s0, a0), sums[2] += a1, sums[3] += high_sum(s1, a1);
        terms -= now;
    }
}

/* Two pairs of channels, whose weights lie `terms` halfwords apart, over one column. */
static inline void dot_pairs_1(const int16_t *w, const int16_t *x, int32_t terms, int32_t sums[4]) {
    const int16_t *v = w + terms;
    sums[0] = sums[1] = sums[2] = sums[3] = 0;
    while (terms > 0) {
        const int32_t now = terms < CHUNK ? terms : CHUNK;
        const int16_t *const end = w + now;
        int32_t s0 = 0, s1 = 0, a0 = 0, a1 = 0;
        do {
            const uint32_t x0 = tw_load2x16(x), x1 = tw_load2x16(x + 2);
            const uint32_t w0 = tw_load2x16(w), w1 = tw_load2x16(w + 2);
            const uint32_t v0 = tw_load2x16(v), v1 = tw_load2x16(v + 2);
            s0 = tw_smlad(w0, x0, s0);
            s1 = tw_smlad(v0, x0, s1);
            s0 = tw_smlad(w1, x1, s0);
            s1 = tw_smlad(v1, x1, s1);
            a0 = tw_smlad(tw_sxtb16(w0), x0, a0);
            a1 = tw_smlad(tw_sxtb16(v0), x0, a1);
            a0 = tw_smlad(tw_sxtb16(w1), x1, a0);
            a1 = tw_smlad(tw_sxtb16(v1), x1, a1);
            w += 4, v += 4, x += 4;
        } while (w != end);
        sums[0] += a0, sums[1] += high_sum(s0, a0), sums[2] += a1, sums[3] += high_sum(s1, a1);
        terms -= now;
    }
}

static void two_pixels(const tw_conv_params *p, const int16_t *columns, int32_t terms, int8_t *out) {
    const int16_t *w = p->weights;
    const tw_channel *channel = p->channels;
    int8_t *next = out + p->out_c;
    for (int32_t left = p->out_c; left > 0; left -= 2, channel += 2, w += terms) {
        int32_t sums[4];
        dot_pair_2(w, columns, columns + terms, terms, sums);
        *out++ = finish(p, &channel[0], sums[0]);
        *next++ = finish(p, &channel[0], sums[2]);
        if (left > 1) {
            *out++ = finish(p, &channel[1], sums[1]);
            *next++ = finish(p, &channel[1], sums[3]);
        }
    }
}

static void one_pixel(const tw_conv_params *p, const int16_t *column, int32_t terms, int8_t *out) {
    const int16_t *w = p->weights;
    const tw_channel *channel = p->channels;
    int32_t left = p->out_c;
    for (; left > 2; left -= 4, channel += 4, w += 2 * terms) {
        int32_t sums[4];
        dot_pairs_1(w, column, terms, sums);
        *out++ = finish(p, &channel[0], sums[0]);
        *out++ = finish(p, &channel[1], sums[1]);
        *out++ = finish(p, &channel[2], sums[2]);
        if (left > 3) {
            *out++ = finish(p, &channel[3], sums[3]);
        }
    }
    if (left > 0) {
        int32_t sums[4];
        dot_pair_2(w, column, column, terms, sums);
        *out++ = finish(p, &channel[0], sums[0]);
        if (left > 1) {
            *out++ = finish(p, &channel[1], sums[1]);
        }
    }
}

void tw_conv2d_fast(const tw_conv_params *p, const int8_t *in, int8_t *out, int16_t *columns) {
    const int32_t terms = (p->filter_h * p->filter_w * p->in_c + 3) & ~3;
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
    }
}
