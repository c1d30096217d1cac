import numpy as np
import pytest
from scipy import ndimage

from crcore.tiling import map_tiles


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 1), (3, 3), (31, 17), (64, 64), (97, 130)])
@pytest.mark.parametrize("tile", [16, 40, 1000])
def test_a_local_function_does_not_see_the_tiles(shape, tile):
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)

    def blur(tile_image):
        assert tile_image.shape[0] % 4 == tile_image.shape[1] % 4 == 0
        return ndimage.uniform_filter(tile_image, 5, mode="reflect")

    got = map_tiles(blur, image, tile_px=tile, margin_px=8, multiple=4)
    whole = map_tiles(blur, image, tile_px=4096, margin_px=8, multiple=4)
    assert got.shape == shape
    assert got == pytest.approx(whole, abs=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (2, 5), (9, 21), (40, 33)])
def test_at_the_edges_of_the_frame_its_reflection_is_seen(shape):
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    seen = []
    map_tiles(lambda t: seen.append(t) or t, image, tile_px=64, margin_px=64, multiple=4, edge_px=10)
    after = [-n % 4 + 12 for n in shape]
    expected = np.pad(image, ((12, after[0]), (12, after[1])), mode="reflect")
    np.testing.assert_array_equal(seen[0], expected)


def test_every_pixel_is_answered_for():
    image = np.arange(35 * 23, dtype=np.float32).reshape(35, 23)
    assert (map_tiles(lambda t: t, image, tile_px=16, margin_px=4, multiple=8) == image).all()
