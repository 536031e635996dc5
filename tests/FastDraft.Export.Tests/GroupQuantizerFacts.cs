namespace FastDraft.Export.Tests;

public sealed class GroupQuantizerFacts
{
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_weight_of_8_bits_is_off_by_half_a_step_at_most(bool halfScale)
    {
        foreach (var values in Groups(64))
        {
            var codes = new byte[values.Length];
            var (scale, zero) = GroupQuantizer.Quantize(values, 8, codes, halfScale);
            for (var i = 0; i < values.Length; i++)
            {
                // The rounding of the zero point and of a float16 scale may push the ends of the range out by as much again.
                var bound = scale * (values[i] == values.Min() || values[i] == values.Max() || halfScale ? 1.2f : 0.5001f);
                Assert.InRange(Math.Abs(values[i] - ((codes[i] - zero) * scale)), 0, bound);
            }
        }
    }

    [Fact]
    public void Weights_of_4_bits_are_no_worse_than_with_the_whole_range_of_the_group()
    {
        foreach (var values in Groups(64))
        {
            var codes = new byte[values.Length];
            var (scale, zero) = GroupQuantizer.Quantize(values, 4, codes, halfScale: false);
            Assert.All(codes, c => Assert.InRange(c, 0, 15));
            var error = values.Select((v, i) => Math.Pow(v - ((codes[i] - zero) * scale), 2)).Sum();

            var (least, largest) = (Math.Min(0, values.Min()), Math.Max(0, values.Max()));
            var whole = (largest - least) / 15;
            var origin = MathF.Round(-least / whole);
            var expected = values.Sum(v => Math.Pow(v - ((Math.Clamp(MathF.Round(v / whole) + origin, 0, 15) - origin) * whole), 2));
            Assert.InRange(error, 0, expected * 1.0001);
        }
    }

    [Theory]
    [InlineData(8)]
    [InlineData(4)]
    public void Zeros_stay_zeros_and_a_weight_that_is_not_a_number_stays_visible(int bits)
    {
        var codes = new byte[32];
        var (scale, zero) = GroupQuantizer.Quantize(new float[32], bits, codes, halfScale: true);
        Assert.All(codes, c => Assert.Equal(0, (c - zero) * scale));

        var broken = new float[32];
        broken[7] = float.NaN;
        Assert.True(float.IsNaN(GroupQuantizer.Quantize(broken, bits, codes, halfScale: true).Scale));
    }

    [Fact]
    public void Two_codes_of_4_bits_share_a_byte_the_first_in_the_low_half()
    {
        var packed = new byte[2];
        GroupQuantizer.Pack([1, 15, 7], packed);
        Assert.Equal([0xF1, 0x07], packed);
    }

    private static IEnumerable<float[]> Groups(int size)
    {
        var random = new Random(20261130);
        for (var i = 0; i < 200; i++)
        {
            var spread = MathF.Pow(10, (i % 5) - 3);
            yield return [.. Enumerable.Range(0, size).Select(_ => (random.NextSingle() + random.NextSingle() + random.NextSingle() - 1.5f) * spread)];
        }
    }
}
