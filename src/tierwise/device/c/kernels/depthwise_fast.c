/* Depthwise convolution, four channels at a time: one load brings a value of each, two instructions extend them and
 * take the zero point off, four multiply-accumulates follow. Weights are kept in 16 bits: they are few. */
#include "tw_dsp.h"
#include "tw_kernels.h"

/* The taps [first, end) of a filter side that fall inside the image. */
static void inside(int32_t at, int32_t size, int32_t taps, int32_t dilation, int32_t *first, int32_t *end) {
    *first = 0;
    *end = taps;
    if (at >= 0 && at + (taps - 1) * dilation < size) {
        return;
    }
    while (*first < taps && at + *first * dilation < 0) {
        ++*first;
    }
    while (*end > *first && at + (*end - 1) * dilation >= size) {
        --*end;
    }
}

/* The taps of one output pixel that fall inside the image. Steps in bytes of the image and halfwords of weights. */
typedef struct {
    int32_t rows, taps;
    int32_t step, row_step, skipped_weights;
    uint32_t zeros; /* minus the input's zero point, twice */
} patch;

typedef struct {
    int32_t s0, s1, s2, s3;
} four;

static inline void tap(uint32_t zeros, const int8_t *x, const int16_t **w, four *sums) {
    const uint32_t bytes = tw_load4(x);
    const uint32_t even = tw_sxtab16(zeros, bytes), odd = tw_sxtab16_ror8(zeros, bytes);
    uint32_t w02, w13;
    tw_next4x16(w, &w02, &w13);
    sums->s0 = tw_smlabb(even, w02, sums->s0);
    sums->s2 = tw_smlatt(even, w02, sums->s2);
    sums->s1 = tw_smlabb(odd, w13, sums->s1);
    sums->s3 = tw_smlatt(odd, w13, sums->s3);
}

/* Four channels under one patch. A function of its own, so that the loops have all registers to themselves. */
static __attribute__((noinline)) void four_channels(const patch *p, const int8_t *row, const int16_t *w,
                                                    const tw_fast_channel *channel, int8_t *out) {
    four sums = {0, 0, 0, 0};
    const uint32_t zeros = p->zeros;
    const int32_t step = p->step, row_step = p->row_step, skipped = p->skipped_weights;
    if (p->taps == 3) { /* the usual filter */
        const int16_t *const end = w + p->rows * (12 + skipped);
        for (; w != end; row += row_step, w += skipped) {
            tap(zeros, row, &w, &sums);
            tap(zeros, row + step, &w, &sums);
            tap(zeros, row + 2 * step, &w, &sums);
        }
    } else {
        for (int32_t rows = p->rows; rows > 0; rows--, row += row_step, w += skipped) {
            const int16_t *const end = w + 4 * p->taps;
            for (const int8_t *x = row; w != end; x += step) {
                tap(zeros, x, &w, &sums);
            }
        }
    }
    out[0] = tw_finish(tw_next_factors(&channel), sums.s0);
    out[1] = tw_finish(tw_next_factors(&channel), sums.s1);
    out[2] = tw_finish(tw_next_factors(&channel), sums.s2);
    out[3] = tw_finish(tw_next_factors(&channel), sums.s3);
}

static void pixel(const tw_conv_params *p, const int8_t *image, int32_t y0, int32_t x0, int8_t *out) {
    int32_t fy0, fy1, fx0, fx1;
    inside(y0, p->in_h, p->filter_h, p->dilation_h, &fy0, &fy1);
    inside(x0, p->in_w, p->filter_w, p->dilation_w, &fx0, &fx1);
    const patch taps = {
        .rows = fy1 - fy0,
        .taps = fx1 - fx0,
        .step = p->dilation_w * p->in_c,
        .row_step = p->dilation_h * p->in_w * p->in_c,
        .skipped_weights = 4 * (p->filter_w - (fx1 - fx0)),
        .zeros = ((uint32_t)-p->in_zero & 0xFFFFu) * 0x10001u,
    };
    const tw_fast_channel *channel = p->channels;
    const int32_t weights_step = 4 * p->filter_h * p->filter_w;
    const int16_t *weights = (const int16_t *)p->weights + 4 * (fy0 * p->filter_w + fx0);
    const int8_t *corner = image + ((y0 + fy0 * p->dilation_h) * p->in_w + x0 + fx0 * p->dilation_w) * p->in_c;
    for (const int8_t *const end = out + p->out_c; out != end; out += 4, corner += 4, channel += 4) {
        four_channels(&taps, corner, weights, channel, out);
        weights += weights_step;
    }
}

void tw_depthwise_fast(const tw_conv_params *p, const int8_t *in, int8_t *out) {
    int8_t *const start = out;
    for (int32_t n = 0; n < p->batch; n++) {
        const int8_t *image = in + n * p->in_h * p->in_w * p->in_c;
        for (int32_t y = 0; y < p->out_h; y++) {
            for (int32_t x = 0; x < p->out_w; x++, out += p->out_c) {
                pixel(p, image, y * p->stride_h - p->pad_h, x * p->stride_w - p->pad_w, out);
            }
        }
    }
    tw_clamp_all(start, (int32_t)(out - start), p->low, p->high);
}
