/* The functions of exported networks. Each begins at a line [name]; a C file contains those that
 * its layers call. Images are x[C][H][W]: one channel after the other, row by row. */

/* [window] */
/* Input x[C][H][W] and output z[F][Ho][Wo] of a layer, and the window of an output: z[.][i][j]
 * depends on x[.][i * sh + m * dh - ph][j * sw + n * dw - pw] for m < kh, n < kw. */
struct window {
    int C, H, W, F, Ho, Wo, kh, kw, sh, sw, ph, pw, dh, dw, groups;
};

/* The smallest i >= 0 with i * step >= start. */
static int first(int start, int step)
{
    return start > 0 ? (start + step - 1) / step : 0;
}

static int smaller(int a, int b)
{
    return a < b ? a : b;
}

/* [convolution] */
/* z[F][Ho][Wo] = b[F] + the sum over c, m, n of W[F][C / groups][kh][kw] * x; outside, x is 0. */
static void convolution(const float *x, const struct window *s, const float *weight,
                        const float *bias, float *z)
{
    int C = s->C / s->groups, F = s->F / s->groups, H = s->H, W = s->W, Wo = s->Wo, sw = s->sw;
    for (int f = 0; f < s->F; f++, z += s->Ho * Wo) {
        const float *group = x + f / F * C * H * W;
        for (int i = 0; i < s->Ho * Wo; i++)
            z[i] = bias[f];
        for (int c = 0; c < C; c++)
            for (int m = 0; m < s->kh; m++)
                for (int n = 0; n < s->kw; n++) {
                    float w = *weight++;
                    int h = m * s->dh - s->ph, v = n * s->dw - s->pw;
                    int bottom = smaller(s->Ho, first(H - h, s->sh));
                    int left = first(-v, sw), right = smaller(Wo, first(W - v, sw));
                    for (int i = first(-h, s->sh); i < bottom; i++) {
                        float *row = z + i * Wo;
                        const float *in = group + (c * H + h + i * s->sh) * W;
                        if (sw == 1) /* a loop that compilers vectorise */
                            for (int j = left; j < right; j++)
                                row[j] += w * in[j + v];
                        else
                            for (int j = left; j < right; j++)
                                row[j] += w * in[j * sw + v];
                    }
                }
    }
}

/* [transposed_convolution] */
/* z[F][Ho][Wo] = b[F] + the sum over c, m, n of W[C][F / groups][kh][kw] * x, added at
 * z[f][i * sh + m * dh - ph][j * sw + n * dw - pw]. */
static void transposed_convolution(const float *x, const struct window *s, const float *weight,
                                   const float *bias, float *z)
{
    int C = s->C / s->groups, F = s->F / s->groups, Ho = s->Ho, Wo = s->Wo;
    for (int f = 0; f < s->F; f++)
        for (int i = 0; i < Ho * Wo; i++)
            z[f * Ho * Wo + i] = bias[f];
    for (int c = 0; c < s->C; c++, x += s->H * s->W)
        for (int f = 0; f < F; f++) {
            float *out = z + (c / C * F + f) * Ho * Wo;
            for (int m = 0; m < s->kh; m++)
                for (int n = 0; n < s->kw; n++) {
                    float w = *weight++;
                    int h = m * s->dh - s->ph, v = n * s->dw - s->pw;
                    int bottom = smaller(s->H, first(Ho - h, s->sh));
                    int right = smaller(s->W, first(Wo - v, s->sw));
                    for (int i = first(-h, s->sh); i < bottom; i++)
                        for (int j = first(-v, s->sw); j < right; j++)
                            out[(i * s->sh + h) * Wo + j * s->sw + v] += w * x[i * s->W + j];
                }
        }
}

/* [max_pooling] */
/* z[C][Ho][Wo] = the maximum of the window. */
static void max_pooling(const float *x, const struct window *s, float *z)
{
    int H = s->H, W = s->W, Wo = s->Wo, sw = s->sw;
    for (int c = 0; c < s->C; c++, x += H * W, z += s->Ho * Wo) {
        for (int i = 0; i < s->Ho * Wo; i++)
            z[i] = -HUGE_VALF;
        for (int m = 0; m < s->kh; m++)
            for (int n = 0; n < s->kw; n++) {
                int h = m * s->dh - s->ph, v = n * s->dw - s->pw;
                int bottom = smaller(s->Ho, first(H - h, s->sh));
                int left = first(-v, sw), right = smaller(Wo, first(W - v, sw));
                for (int i = first(-h, s->sh); i < bottom; i++) {
                    float *row = z + i * Wo;
                    const float *in = x + (h + i * s->sh) * W;
                    for (int j = left; j < right; j++)
                        row[j] = in[j * sw + v] > row[j] ? in[j * sw + v] : row[j];
                }
            }
    }
}

/* [sum_pooling] */
/* z[C][Ho][Wo] = factor * the sum of the window. */
static void sum_pooling(const float *x, const struct window *s, float factor, float *z)
{
    int H = s->H, W = s->W, Wo = s->Wo, sw = s->sw;
    for (int c = 0; c < s->C; c++, x += H * W, z += s->Ho * Wo) {
        for (int i = 0; i < s->Ho * Wo; i++)
            z[i] = 0.0f;
        for (int m = 0; m < s->kh; m++)
            for (int n = 0; n < s->kw; n++) {
                int h = m * s->dh - s->ph, v = n * s->dw - s->pw;
                int bottom = smaller(s->Ho, first(H - h, s->sh));
                int left = first(-v, sw), right = smaller(Wo, first(W - v, sw));
                for (int i = first(-h, s->sh); i < bottom; i++) {
                    float *row = z + i * Wo;
                    const float *in = x + (h + i * s->sh) * W;
                    for (int j = left; j < right; j++)
                        row[j] += in[j * sw + v];
                }
            }
        for (int i = 0; i < s->Ho * Wo; i++)
            z[i] *= factor;
    }
}

/* [repeat] */
/* y[C][H * kh][W * kw]: every number of x[C][H][W] fills kh * kw places. */
static void repeat(const float *x, int C, int H, int W, int kh, int kw, float *y)
{
    for (int c = 0; c < C; c++, x += H * W)
        for (int i = 0; i < H * kh; i++)
            for (int j = 0; j < W * kw; j++)
                *y++ = x[i / kh * W + j / kw];
}

/* [linear] */
/* z[F] = W[F][D] * x[D] + b. */
static void linear(const float *x, int D, const float *weight, const float *bias, int F, float *z)
{
    for (int f = 0; f < F; f++, weight += D) {
        z[f] = bias[f];
        for (int d = 0; d < D; d++)
            z[f] += weight[d] * x[d];
    }
}

/* [squared_distances] */
/* y[F] = the squared distance of x[D] to each of centres[F][D]. */
static void squared_distances(const float *x, int D, const float *centres, int F, float *y)
{
    for (int f = 0; f < F; f++, centres += D) {
        y[f] = 0.0f;
        for (int d = 0; d < D; d++)
            y[f] += (x[d] - centres[d]) * (x[d] - centres[d]);
    }
}

/* [scale_channels] */
/* x[C][size] = factor[C] * x + offset[C]. */
static void scale_channels(float *x, int C, int size, const float *factor, const float *offset)
{
    for (int c = 0; c < C; c++, x += size)
        for (int i = 0; i < size; i++)
            x[i] = factor[c] * x[i] + offset[c];
}

/* [scale_places] */
/* x[C][size] = factor[size] * x. */
static void scale_places(float *x, int C, int size, const float *factor)
{
    for (int c = 0; c < C; c++, x += size)
        for (int i = 0; i < size; i++)
            x[i] *= factor[i];
}

/* [negate] */
static void negate(float *x, int count)
{
    for (int i = 0; i < count; i++)
        x[i] = -x[i];
}

/* [declarations] */
/* The class of an image, and the probabilities of all classes; for a blank image 0, and equal
 * probabilities. */
int lenet_probabilities(const float image[LENET_PIXELS], float probabilities[LENET_CLASSES]);

/* The scores of all classes, whose softmax is the probabilities unless the image is blank. */
void lenet_scores(const float image[LENET_PIXELS], float scores[LENET_CLASSES]);

/* [isimage] */
/* Whether the levels of an image are finite and differ by more than 1. */
static int is_image(const unsigned char *bytes, const float *floats)
{
    float minimum = HUGE_VALF, maximum = -HUGE_VALF;
    for (int k = 0; k < LENET_PIXELS; k++) {
        float level = bytes ? (float)bytes[k] : floats[k];
        if (!(level - level == 0.0f)) /* NaN or an infinity */
            return 0;
        minimum = level < minimum ? level : minimum;
        maximum = level > maximum ? level : maximum;
    }
    return maximum - minimum > 1.0f;
}

/* [definitions] */
void lenet_scores(const float image[LENET_PIXELS], float scores[LENET_CLASSES])
{
    scores_of(0, image, scores);
}

int lenet_probabilities(const float image[LENET_PIXELS], float probabilities[LENET_CLASSES])
{
    float sum = 0.0f, *p = probabilities;
    for (int c = 0; c < LENET_CLASSES; c++)
        p[c] = 0.0f;
    if (is_image(0, image))
        scores_of(0, image, p);
    int best = largest(p);
    float maximum = p[best]; /* subtracted, so that expf cannot overflow */
    for (int c = 0; c < LENET_CLASSES; c++)
        sum += p[c] = expf(p[c] - maximum);
    for (int c = 0; c < LENET_CLASSES; c++)
        p[c] /= sum;
    return best;
}
