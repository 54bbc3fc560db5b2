/* Depthwise convolution, portable. Output channel c reads input channel c / (out_c / in_c). */
#include "tw_kernels.h"
#include "tw_math.h"

void tw_depthwise(const tw_conv_params *p, const int8_t *in, int8_t *out) {
    const int32_t multiplier = p->out_c / p->in_c;
    for (int32_t n = 0; n < p->batch; n++) {
        const int8_t *image = in + n * p->in_h * p->in_w * p->in_c;
        for (int32_t oy = 0; oy < p->out_h; oy++) {
            for (int32_t ox = 0; ox < p->out_w; ox++) {
                for (int32_t c = 0; c < p->out_c; c++) {
                    const tw_channel *channel = (const tw_channel *)p->channels + c;
                    const int8_t *w = (const int8_t *)p->weights + c;
                    int32_t sum = channel->bias;
                    for (int32_t fy = 0; fy < p->filter_h; fy++) {
                        for (int32_t fx = 0; fx < p->filter_w; fx++, w += p->out_c) {
                            const int32_t y = oy * p->stride_h - p->pad_h + fy * p->dilation_h;
                            const int32_t x = ox * p->stride_w - p->pad_w + fx * p->dilation_w;
                            if (y >= 0 && y < p->in_h && x >= 0 && x < p->in_w) {
                                const int8_t value = image[(y * p->in_w + x) * p->in_c + c / multiplier];
                                sum += (value - p->in_zero) * *w;
                            }
                        }
                    }
                    const int32_t scaled = tw_multiply(sum, channel->multiplier, channel->shift);
                    *out++ = (int8_t)tw_clamp(scaled + p->out_zero, p->low, p->high);
                }
            }
        }
    }
}
