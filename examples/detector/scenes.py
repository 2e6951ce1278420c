"""Renders pictures of small machine parts on a conveyor belt, with their boxes.

Every part is a height field bounded by a signed distance, lit by one lamp: the same
normals give the shading, the highlights and the mirrored room in the metal, and the
same mask gives the shadow. Around the parts there is what makes a real picture hard:
belt texture, stains, seams, uneven light, foreign objects that look like parts,
cables across parts, blur, sensor noise and JPEG artefacts.

Needs numpy, scipy and Pillow.
"""

import io

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter, shift, uniform_filter1d

WIDTH, HEIGHT = 320, 240
LABELS = ["bolt", "nut", "washer", "gear", "screw", "spring"]
LYING = (0, 4, 5)
SUPERSAMPLE = 2
MIN_VISIBLE = 0.7

STEEL = [(0.62, 0.63, 0.65), (0.50, 0.52, 0.56), (0.72, 0.71, 0.68), (0.16, 0.16, 0.17), (0.28, 0.29, 0.33)]
BRASS = [(0.70, 0.55, 0.26), (0.66, 0.40, 0.26), (0.62, 0.57, 0.36)]
PLASTIC = [
    (0.80, 0.79, 0.74), (0.12, 0.12, 0.13), (0.62, 0.13, 0.10),
    (0.12, 0.26, 0.52), (0.75, 0.60, 0.12), (0.14, 0.42, 0.22),
]
BELTS = [
    (0.16, 0.17, 0.17), (0.10, 0.22, 0.17), (0.14, 0.20, 0.32), (0.36, 0.36, 0.35),
    (0.56, 0.52, 0.45), (0.68, 0.69, 0.68), (0.40, 0.30, 0.21), (0.22, 0.13, 0.11),
]


def smoothstep(edge0, edge1, x):
    t = np.clip((x - edge0) / (edge1 - edge0), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def noise(rng, height, width, cell):
    """Smooth noise of zero mean and about unit deviation whose grain is `cell` pixels wide."""
    grain = rng.standard_normal((height // cell + 2, width // cell + 2), np.float32)
    if cell > 1:
        grain = np.asarray(Image.fromarray(grain).resize((width, height), Image.Resampling.BICUBIC)) * 1.3
    return grain[:height, :width]


# The shapes: (distance, height) of a part at local points (u along, v across), in pixels.


def nut(rng, u, v, size):
    apothem = size * 0.5
    hole = apothem * rng.uniform(0.46, 0.58)
    rho = np.hypot(u, v)
    angle = (np.arctan2(v, u) + np.pi / 6) % (np.pi / 3) - np.pi / 6
    flat = rho * np.cos(angle) - apothem
    thick = apothem * rng.uniform(0.55, 0.8)
    chamfer = np.maximum(rho - apothem * 0.97, 0.0) * 0.9
    bevel = np.maximum(hole * 1.18 - rho, 0.0) * 0.9
    return np.maximum(flat, hole - rho), thick - chamfer - bevel


def washer(rng, u, v, size):
    outer = size * 0.5
    inner = outer * rng.uniform(0.42, 0.68)
    rho = np.hypot(u, v)
    distance = np.maximum(rho - outer, inner - rho)
    if rng.random() < 0.25:
        cut = outer * 0.05
        distance = np.maximum(distance, np.where(u > 0, cut - np.abs(v - u * 0.25), -9.0))
    edge = outer * 0.08
    return distance, outer * 0.18 - np.maximum(distance + edge, 0.0) ** 2 / (2.0 * edge)


def gear(rng, u, v, size):
    outer = size * 0.5
    teeth = int(rng.integers(9, 19))
    depth = outer * rng.uniform(0.14, 0.22)
    rho, angle = np.hypot(u, v), np.arctan2(v, u)
    rim = outer - depth * (0.5 - 0.5 * np.tanh(2.2 * np.cos(teeth * angle)))
    hole = outer * rng.uniform(0.14, 0.28)
    distance = np.maximum(rho - rim, hole - rho)
    thick = outer * rng.uniform(0.3, 0.5)
    web = smoothstep(outer * 0.48, outer * 0.44, rho) + smoothstep(outer * 0.66, outer * 0.70, rho)
    if rng.random() < 0.5:
        count = int(rng.integers(3, 7))
        spot = (angle + np.pi / count) % (2 * np.pi / count) - np.pi / count
        centre = np.hypot(rho * np.cos(spot) - outer * 0.54, rho * np.sin(spot))
        distance = np.maximum(distance, outer * 0.13 - centre)
    return distance, thick * (0.6 + 0.4 * web)


def shaft(u, v, start, end, radius, pitch, cut, slant):
    """A threaded cylinder from `start` to `end` along u."""
    phase = 2 * np.pi * (u + slant * v) / pitch
    around = radius - cut * (0.5 + 0.5 * np.sin(phase))
    distance = np.maximum(np.abs(v) - around, np.maximum(start - u, u - end))
    return distance, np.sqrt(np.maximum(around**2 - v**2, 0.0))


def bolt(rng, u, v, size):
    half = size * 0.5
    radius = size * rng.uniform(0.095, 0.13)
    head_length, head_radius = radius * rng.uniform(1.1, 1.5), radius * rng.uniform(1.75, 2.05)
    seat = -half + head_length
    plain = seat + (half - seat) * rng.uniform(0.0, 0.45)
    cut = np.where(u > plain, radius * 0.2, 0.0)
    d_shaft, h_shaft = shaft(u, v, seat, half, radius, max(2.6, radius * 0.55), cut, 0.12)
    d_shaft = np.maximum(d_shaft, np.abs(v) + (u - half) - radius * 0.6)
    crown = np.maximum(-half + head_length * 0.25 - u, 0.0)
    d_head = np.maximum(np.abs(v) - head_radius + crown * 0.6, np.maximum(-half - u, u - seat))
    facet = np.minimum(head_radius * 0.86, (head_radius - np.abs(v)) * 1.7) - crown
    if rng.random() < 0.4:
        flange = np.maximum(np.abs(v) - head_radius * 1.2, np.abs(u - seat) - head_length * 0.16)
        facet = np.where(flange < 0, head_radius - np.abs(v) * 0.4, facet)
        d_head = np.minimum(d_head, flange)
    return np.minimum(d_shaft, d_head), np.where(d_head < 0, np.maximum(facet, h_shaft), h_shaft)


def screw(rng, u, v, size):
    half = size * 0.5
    radius = size * rng.uniform(0.06, 0.085)
    head_radius, head_length = radius * rng.uniform(2.0, 2.5), radius * rng.uniform(1.5, 2.2)
    pitch = max(3.6, size * rng.uniform(0.07, 0.095))
    taper = np.clip((half - u) / (size * 0.38), 0.03, 1.0) ** 0.8
    cut = radius * 0.42 * taper
    d_shaft, h_shaft = shaft(u, v, -half + head_length * 0.5, half, radius * taper, pitch, cut, 0.45)
    along = np.clip((u + half) / head_length, 0.0, 1.0)
    if rng.random() < 0.6:
        profile = head_radius + (radius * 0.75 - head_radius) * smoothstep(0.1, 1.0, along)
    else:
        profile = head_radius * np.sqrt(1.0 - (1.0 - np.minimum(along * 1.5, 1.0)) ** 2)
    d_head = np.maximum(np.abs(v) - profile, np.maximum(-half - u, u + half - head_length))
    h_head = np.sqrt(np.maximum(profile**2 - v**2, 0.0))
    return np.minimum(d_shaft, d_head), np.where(d_head < 0, np.maximum(h_head, h_shaft), h_shaft)


def spring(rng, u, v, size):
    half = size * 0.5
    wire = size * rng.uniform(0.022, 0.034) + 0.5
    radius = size * rng.uniform(0.14, 0.20)
    period = (size - 2 * wire) / int(rng.integers(5, 9))
    inside = np.maximum(np.abs(u) - half, np.abs(v) - radius)
    t = np.clip(v / (radius - wire), -1.0, 1.0)

    def strand(lean, phase):
        along = (u + (lean * t + phase + 0.5) * period) % period - period / 2
        return np.maximum(np.abs(along) - wire - wire * 1.2 * np.abs(t) ** 6, inside)

    # The far half of each turn leans the other way, which is what makes a coil read as a coil.
    front, back = strand(0.25, 0.0), strand(-0.25, 0.5)
    section = lambda d: np.sqrt(np.maximum(wire**2 - np.clip(d + wire, 0.0, wire) ** 2, 0.0))
    dome = np.sqrt(np.maximum(1.0 - (v / (radius * 1.02)) ** 2, 0.0)) * wire
    height = np.where(front < 0.3, section(front) + radius + dome, section(back) * 0.6)
    return np.minimum(front, back), height


SHAPES = [bolt, nut, washer, gear, screw, spring]
SIZES = [(52, 88), (28, 48), (28, 52), (38, 68), (48, 84), (44, 78)]


def disc(rng, u, v, size):
    """A coin, a button or a cap: round like a washer, without the hole."""
    rho, outer = np.hypot(u, v), size * 0.5
    ring = smoothstep(outer * 0.78, outer * 0.82, rho) * outer * 0.1
    return rho - outer, outer * 0.15 + ring - np.maximum(rho - outer * 0.93, 0.0)


def pin(rng, u, v, size):
    """A smooth rod: long like a bolt, without head and thread."""
    radius = size * rng.uniform(0.04, 0.1)
    distance = np.maximum(np.abs(v) - radius, np.abs(u) - size * 0.5)
    return distance, np.sqrt(np.maximum(radius**2 - v**2, 0.0))


def chip(rng, u, v, size):
    """A scrap with an irregular outline."""
    angle, rho = np.arctan2(v, u), np.hypot(u, v * rng.uniform(1.0, 2.2))
    rim = size * 0.4
    for order in range(2, 6):
        rim = rim + size * 0.12 / order * rng.uniform(-1, 1) * np.cos(order * angle + rng.uniform(0, 6.3))
    return rho - rim, 1.5 + 0.05 * u * rng.uniform(-1, 1) + 0.04 * v * rng.uniform(-1, 1)


FOREIGN = [disc, pin, chip]


def downsample(field, side):
    """The mean over SUPERSAMPLE x SUPERSAMPLE blocks of [side * S, side * S, ...]."""
    blocks = field.reshape(side, SUPERSAMPLE, side, SUPERSAMPLE, -1)
    return blocks.mean((1, 3))


class Scene:
    """A picture under construction: colours about 0..1, and which part owns which pixel."""

    def __init__(self, rng):
        self.rng = rng
        elevation, azimuth = rng.uniform(0.55, 1.15), rng.uniform(0, 2 * np.pi)
        self.towards = np.array([np.cos(azimuth), np.sin(azimuth)])
        self.light = np.array([*(self.towards * np.cos(elevation)), np.sin(elevation)])
        self.shadow_slope = 1.0 / np.tan(elevation)
        self.shadow_strength = rng.uniform(0.25, 0.7)
        self.softness = rng.uniform(0.6, 2.2)
        self.owner = np.full((HEIGHT, WIDTH), -1, np.int16)
        self.areas, self.boxes, self.classes = [], [], []
        self.colour = self.belt()

    def belt(self):
        rng = self.rng
        base = np.array(BELTS[rng.integers(len(BELTS))]) * rng.uniform(0.75, 1.25)
        grain = noise(rng, HEIGHT, WIDTH, 1) * rng.uniform(0.01, 0.06)
        grain += noise(rng, HEIGHT, WIDTH, 4) * rng.uniform(0.01, 0.05)
        grain += noise(rng, HEIGHT, WIDTH, 30) * rng.uniform(0.02, 0.1)
        y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(float)
        angle = rng.uniform(0, np.pi)
        a, b = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        kind = rng.integers(4)
        if kind == 0:
            pitch = rng.uniform(4, 10)
            grain += rng.uniform(0.02, 0.1) * np.sin(2 * np.pi * a / pitch) * np.sin(2 * np.pi * b / pitch)
        elif kind == 1:
            grain += rng.uniform(0.03, 0.12) * np.tanh(4 * np.sin(2 * np.pi * a / rng.uniform(8, 34)))
        elif kind == 2:
            reach = (0.3, 14) if rng.random() < 0.5 else (14, 0.3)
            streak = gaussian_filter(noise(rng, HEIGHT, WIDTH, 1), reach)
            grain += streak / streak.std() * rng.uniform(0.02, 0.09)
        colour = base * (1.0 + grain[..., None])
        for _ in range(rng.integers(0, 3)):
            stain = smoothstep(0.5, 2.2, noise(rng, HEIGHT, WIDTH, int(rng.integers(12, 40))))[..., None]
            colour = colour * (1 - stain * rng.uniform(0.1, 0.45)) + stain * rng.uniform(0, 0.08)
        for _ in range(rng.integers(0, 5)):
            self.line(colour, rng.uniform(0.4, 1.2), base * rng.uniform(0.4, 1.9), rng.uniform(0.2, 0.7))
        if rng.random() < 0.3:
            edge = rng.uniform(4, 34)
            rail = np.array([0.5, 0.5, 0.52]) * rng.uniform(0.3, 1.3)
            side = smoothstep(edge + 0.7, edge - 0.7, y if rng.random() < 0.5 else x)[..., None]
            rail = rail * (1 + 0.1 * noise(rng, HEIGHT, WIDTH, 2))[..., None]
            colour = colour * (1 - side) + rail * side
        return np.clip(colour, 0.0, 1.2)

    def line(self, colour, width, paint, strength):
        """A scratch, a seam or a cable: a gently bent line across the picture, drawn into `colour`."""
        rng = self.rng
        y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(float)
        angle = rng.uniform(0, np.pi)
        a = x * np.cos(angle) + y * np.sin(angle)
        b = y * np.cos(angle) - x * np.sin(angle)
        bend = rng.uniform(0, 14) * np.sin(a / rng.uniform(30, 90) + rng.uniform(0, 6))
        distance = np.abs(b + bend - rng.uniform(b.min(), b.max())) - width
        alpha = np.clip(0.5 - distance, 0, 1)
        roundness = 0.7 + 0.5 * np.clip(-distance / width, 0, 1)[..., None] if width > 1.3 else 1.0
        colour[:] = colour * (1 - alpha[..., None] * strength) + paint * roundness * alpha[..., None] * strength
        return alpha

    def hides_too_much(self, owner):
        """Whether some part would show less than MIN_VISIBLE of itself under `owner`."""
        counts = np.bincount(owner[owner >= 0], minlength=len(self.areas))
        return any(counts[i] < MIN_VISIBLE * area for i, area in enumerate(self.areas))

    def place(self, shape, size, palette, label=None):
        """Draws one object somewhere; a part has a label. False where too much would be hidden."""
        rng = self.rng
        half = int(np.ceil(size * 0.62)) + 3
        cx, cy = rng.uniform(-0.1 * size, WIDTH + 0.1 * size), rng.uniform(-0.1 * size, HEIGHT + 0.1 * size)
        x0, y0 = int(round(cx)) - half, int(round(cy)) - half
        grid = (np.arange(2 * half * SUPERSAMPLE) + 0.5) / SUPERSAMPLE
        theta = rng.uniform(0, 2 * np.pi)
        dx, dy = grid[None, :] + x0 - cx, grid[:, None] + y0 - cy
        u, v = dx * np.cos(theta) + dy * np.sin(theta), dy * np.cos(theta) - dx * np.sin(theta)
        if label is not None and label not in LYING:
            # Flat parts are seen a little from the side now and then.
            v = v / rng.uniform(0.82, 1.0)
        distance, height = shape(rng, u, v, size)
        alpha = np.clip(0.5 - distance * SUPERSAMPLE, 0, 1)
        cover = downsample(alpha, 2 * half)[..., 0]

        left, top = max(0, -x0), max(0, -y0)
        right, bottom = min(2 * half, WIDTH - x0), min(2 * half, HEIGHT - y0)
        if right - left < 4 or bottom - top < 4:
            return False
        inner = (slice(top, bottom), slice(left, right))
        outer = (slice(y0 + top, y0 + bottom), slice(x0 + left, x0 + right))
        visible = (cover > 0.5)[inner]
        if visible.sum() < 8 or (label is not None and visible.sum() < 0.65 * (cover > 0.5).sum()):
            return False
        owner = self.owner.copy()
        owner[outer][visible] = -1 if label is None else len(self.areas)
        if self.hides_too_much(owner):
            return False
        self.owner = owner

        self.cast_shadow(cover, float(np.median(height[alpha > 0.5])), inner, outer)
        paint = self.shade(height, alpha, palette) * alpha[..., None]
        paint = downsample(paint, 2 * half) / np.maximum(cover, 1e-3)[..., None]
        mix = cover[inner][..., None]
        self.colour[outer] = self.colour[outer] * (1 - mix) + paint[inner] * mix
        if label is not None:
            rows, cols = np.nonzero(alpha > 0.5)
            corners = np.array([cols.min(), rows.min(), cols.max() + 1, rows.max() + 1]) / SUPERSAMPLE
            self.boxes.append(np.clip(corners + [x0, y0, x0, y0], 0, [WIDTH, HEIGHT, WIDTH, HEIGHT]))
            self.classes.append(label)
            self.areas.append(visible.sum())
        return True

    def shade(self, height, alpha, palette):
        """Colours of an object's surface, [side, side, 3]."""
        rng = self.rng
        side = height.shape[0]
        metal = palette is not PLASTIC
        base = np.array(palette[rng.integers(len(palette))]) * rng.uniform(0.8, 1.15)
        bumps = noise(rng, side, side, 1) * 0.05 + noise(rng, side, side, 5) * rng.uniform(0.05, 0.25)
        surface = gaussian_filter(np.where(alpha > 0, height, 0.0) * SUPERSAMPLE, 0.8) + bumps
        gy, gx = (np.clip(g, -4, 4) for g in np.gradient(surface))
        nz = 1.0 / np.sqrt(gx**2 + gy**2 + 1.0)
        nx, ny = -gx * nz, -gy * nz
        facing = lambda d: np.clip(nx * d[0] + ny * d[1] + nz * d[2], 0, 1)
        halfway = self.light + [0, 0, 1]
        gloss = facing(halfway / np.linalg.norm(halfway)) ** rng.uniform(12, 50)
        gloss = gloss * (rng.uniform(0.3, 0.9) if metal else rng.uniform(0.05, 0.3))
        shade = 0.32 + 0.75 * facing(self.light)
        if metal:
            # A room mirrored in the metal: dark and bright bands that follow the slope.
            shade = shade * (1 + 0.35 * np.sin(3.1 * nx + 2.3 * ny + rng.uniform(0, 6.3)))
            brushed = gaussian_filter(noise(rng, side, side, 1), (0.3, 6))
            shade = shade * (1 + brushed / brushed.std() * rng.uniform(0.0, 0.07))
        paint = base * shade[..., None] + (base * 0.5 + 0.5) * gloss[..., None]
        if metal and rng.random() < 0.2:
            rust = smoothstep(0.2, 1.4, noise(rng, side, side, int(rng.integers(6, 16))))[..., None]
            rust = rust * rng.uniform(0.3, 0.8)
            paint = paint * (1 - rust) + np.array([0.36, 0.18, 0.09]) * shade[..., None] * rust
        return paint

    def cast_shadow(self, cover, height, inner, outer):
        reach = np.clip(abs(height) * 0.7 * self.shadow_slope, 0.8, 9.0)
        offset = -self.towards[::-1] * reach
        thrown = gaussian_filter(shift(cover, offset, order=1), self.softness)
        contact = gaussian_filter(cover, 1.5) * 0.35
        dark = np.clip(np.maximum(thrown, contact), 0, 1)[inner][..., None]
        self.colour[outer] *= 1 - self.shadow_strength * dark

    def cable(self):
        """A thin cable over everything; left out where it would hide too much of a part."""
        rng = self.rng
        trial = self.colour.copy()
        paint = np.array(PLASTIC[rng.integers(len(PLASTIC))]) * 0.8
        alpha = self.line(trial, rng.uniform(1.4, 3.2), paint, 1.0)
        owner = np.where(alpha > 0.5, -1, self.owner)
        if not self.hides_too_much(owner):
            self.owner = owner
            thrown = gaussian_filter(shift(alpha, -self.towards[::-1] * 2.5, order=1), 1.2) * (1 - alpha)
            self.colour = trial * (1 - self.shadow_strength * 0.6 * thrown[..., None])

    def photograph(self, calm):
        """The light on the scene, the lens, and the sensor: u8 [HEIGHT, WIDTH, 3]."""
        rng = self.rng
        y, x = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
        angle = rng.uniform(0, 2 * np.pi)
        light = 1 + rng.uniform(0, 0.35) * (x * np.cos(angle) + y * np.sin(angle))
        light -= rng.uniform(0, 0.25) * (x**2 + y**2)
        if rng.random() < 0.35:
            px, py = rng.uniform(-1, 1, 2)
            light += rng.uniform(0.1, 0.5) * np.exp(-((x - px) ** 2 + (y - py) ** 2) / rng.uniform(0.05, 0.5))
        if rng.random() < 0.3:
            # Something outside the picture stands in the light.
            angle = rng.uniform(0, 2 * np.pi)
            edge = x * np.cos(angle) + y * np.sin(angle) - rng.uniform(-0.5, 0.7)
            light *= 1 - rng.uniform(0.2, 0.55) * smoothstep(0, rng.uniform(0.02, 0.3), edge)
        tint = (1 + rng.uniform(-0.1, 0.1, 3)) * rng.uniform(0.9, 1.4)
        picture = self.colour * np.clip(light, 0.1, 2)[..., None] * tint
        blur = rng.uniform(0.25, 0.8)
        picture = gaussian_filter(picture, (blur, blur, 0))
        if rng.random() < 0.25:
            picture = uniform_filter1d(picture, int(rng.integers(2, 4)), axis=int(rng.integers(2)))
        picture = np.clip(picture, 0, 1) ** rng.uniform(0.7, 1.05)
        grain = rng.uniform(0.003, 0.03) if not calm else 0.002
        picture = picture + rng.standard_normal(picture.shape) * grain * np.sqrt(picture + 0.1)
        picture = (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
        if not calm and rng.random() < 0.3:
            buffer = io.BytesIO()
            Image.fromarray(picture).save(buffer, "JPEG", quality=int(rng.integers(55, 92)))
            picture = np.asarray(Image.open(buffer).convert("RGB"))
        return picture


def make(seed, calm=False):
    """One picture: (u8 [240, 320, 3], boxes f32 [n, 4] as x1 y1 x2 y2 in pixels, classes i64 [n]).

    A box is the whole part, hidden pieces included, cut at the border of the picture.
    A calm picture has little sensor noise, so that it compresses well.
    """
    rng = np.random.default_rng(seed)
    scene = Scene(rng)
    for _ in range(rng.integers(0, 4)):
        scene.place(FOREIGN[rng.integers(3)], rng.uniform(16, 60), [STEEL, BRASS, PLASTIC][rng.integers(3)])
    closeness = rng.uniform(0.85, 1.2)
    for _ in range(rng.integers(2, 13)):
        label = int(rng.integers(len(LABELS)))
        palette = BRASS if rng.random() < 0.2 else STEEL
        if LABELS[label] == "gear" and rng.random() < 0.4:
            palette = PLASTIC
        size = rng.uniform(*SIZES[label]) * closeness
        for _ in range(6):
            if scene.place(SHAPES[label], size, palette, label):
                break
    if rng.random() < 0.3:
        scene.place(chip, rng.uniform(14, 36), PLASTIC)
    if rng.random() < 0.25:
        scene.cable()
    boxes = np.array(scene.boxes, np.float32).reshape(-1, 4)
    return scene.photograph(calm), boxes, np.array(scene.classes, np.int64)
