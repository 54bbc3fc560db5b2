/* Depthwise convolution, four channels at a time: one load brings a value of each, two instructions extend them and
 * take the zero point off, four multiply-accumulates follow. Weights are kept in 16 bits: they are few. */
#include "tw_dsp.h"
#include "tw_kernels.h"
#include "tw_math.h"

/* The taps [first, end) of a filter side that fall inside the image. */
static void inside(int32_t at, int32_t size, int32_t taps, int32_t dilation, int32_t *first, int32_t *end) {
    *first = 0;
    *end = taps;
    while (*first < taps && at + *first * dilation < 0) {
        ++*first;
    }
    while (*end > *first && at + (*end - 1) * dilation >= size) {
        --*end;
    }
}

static inline int8_t finish(const tw_conv_params *p, const tw_channel *channel, int32_t sum) {
    const int32_t scaled = tw_multiply_fast(channel->bias + sum, channel->multiplier, channel->shift);
    return (int8_t)tw_clamp(scaled + p->out_zero, p->low, p->high);
}

static void pixel(const tw_conv_params *p, const int8_t *image, int32_t y0, int32_t x0, int8_t *out) {
    int32_t fy0, fy1, fx0, fx1;
    inside(y0, p->in_h, p->filter_h, p->dilation_h, &fy0, &fy1);
    inside(x0, p->in_w, p->filter_w, p->dilation_w, &fx0, &fx1);
    const int32_t step = p->dilation_w * p->in_c, row_step = p->dilation_h * p->in_w * p->in_c;
    const uint32_t zeros = ((uint32_t)-p->in_zero & 0xFFFFu) * 0x10001u;
    const int16_t *weights = (const int16_t *)p->weights + 4 * (fy0 * p->filter_w + fx0);
    const int8_t *corner = image + ((y0 + fy0 * p->dilation_h) * p->in_w + x0 + fx0 * p->dilation_w) * p->in_c;
    for (int32_t c = 0; c < p->out_c; c += 4, corner += 4, weights += 4 * p->filter_h * p->filter_w) {
        int32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
        const int8_t *row = corner;
        const int16_t *w_row = weights;
        for (int32_t fy = fy0; fy < fy1; fy++, row += row_step, w_row += 4 * p->filter_w) {
            const int8_t *x = row;
            const int16_t *w = w_row, *const end = w_row + 4 * (fx1 - fx0);
            for (; w != end; w += 4, x += step) {
                const uint32_t bytes = tw_load4(x);
                const uint32_t even = tw_sxtab16(zeros, bytes), odd = tw_sxtab16_ror8(zeros, bytes);
                const uint32_t w02 = tw_load2x16(w), w13 = tw_load2x16(w + 2);
                s0 = tw_smlabb(even, w02, s0);
                s2 = tw_smlatt(even, w02, s2);
                s1 = tw_smlabb(odd, w13, s1);
                s3 = tw_smlatt(odd, w13, s3);
            }
        }
        out[c] = finish(p, &p->channels[c], s0);
        out[c + 1] = finish(p, &p->channels[c + 1], s1);
        out[c + 2] = finish(p, &p->channels[c + 2], s2);
        out[c + 3] = finish(p, &p->channels[c + 3], s3);
    }
}

void tw_depthwise_fast(const tw_conv_params *p, const int8_t *in, int8_t *out) {
    for (int32_t n = 0; n < p->batch; n++) {
        const int8_t *image = in + n * p->in_h * p->in_w * p->in_c;
        for (int32_t y = 0; y < p->out_h; y++) {
            for (int32_t x = 0; x < p->out_w; x++, out += p->out_c) {
                pixel(p, image, y * p->stride_h - p->pad_h, x * p->stride_w - p->pad_w, out);
            }
        }
    }
}
