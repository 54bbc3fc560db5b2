/* Convolution and fully connected layers, portable and in the order of the definition. A fully connected layer is a
 * convolution with a 1x1 filter over an image of 1 x batch pixels. */
#include "tw_kernels.h"
#include "tw_math.h"

static int32_t dot(const tw_conv_params *p, const int8_t *image, const int8_t *w, int32_t y0, int32_t x0) {
    int32_t sum = 0;
    for (int32_t fy = 0; fy < p->filter_h; fy++) {
        for (int32_t fx = 0; fx < p->filter_w; fx++) {
            const int32_t y = y0 + fy * p->dilation_h, x = x0 + fx * p->dilation_w;
            if (y >= 0 && y < p->in_h && x >= 0 && x < p->in_w) {
                const int8_t *pixel = image + (y * p->in_w + x) * p->in_c;
                for (int32_t c = 0; c < p->in_c; c++) {
                    sum += pixel[c] * w[c];
                }
            } else { /* the bias already holds -in_zero * sum(w): padding must be in_zero, not 0 */
                for (int32_t c = 0; c < p->in_c; c++) {
                    sum += p->in_zero * w[c];
                }
            }
            w += p->in_c;
        }
    }
    return sum;
}

void tw_conv2d(const tw_conv_params *p, const int8_t *in, int8_t *out) {
    const int32_t filter = p->filter_h * p->filter_w * p->in_c;
    for (int32_t n = 0; n < p->batch; n++) {
        const int8_t *image = in + n * p->in_h * p->in_w * p->in_c;
        for (int32_t y = 0; y < p->out_h; y++) {
            for (int32_t x = 0; x < p->out_w; x++) {
                const int8_t *w = p->weights;
                for (int32_t c = 0; c < p->out_c; c++, w += filter) {
                    const tw_channel *channel = (const tw_channel *)p->channels + c;
                    const int32_t sum = dot(p, image, w, y * p->stride_h - p->pad_h, x * p->stride_w - p->pad_w);
                    const int32_t scaled = tw_multiply(channel->bias + sum, channel->multiplier, channel->shift);
                    *out++ = (int8_t)tw_clamp(scaled + p->out_zero, p->low, p->high);
                }
            }
        }
    }
}
