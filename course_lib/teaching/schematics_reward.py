"""A schematic of guidance by a reward: forward to the reward, and its gradient back.

The function returns the figure and its alt text: `show(*reward_schematic())`.
"""

from course_lib.teaching.schematics import Schematic
from course_lib.teaching.shapes import Sheet
from course_lib.teaching.style import BLUE, GREEN, GREY, ORANGE, PINK, RED, styled


@styled
def reward_schematic() -> Schematic:
    """One guided prediction: x_t to the predicted x0, its picture, its reward, and the slope."""
    sheet, y = Sheet(9.4, 2.15), 1.4
    xt = sheet.feature_map(0.6, y, "$x_t$", PINK, side=0.36)
    unet = sheet.box(2.2, y, 1.4, 0.7, "U-Net", GREY, "frozen")
    x0 = sheet.feature_map(3.95, y, r"predicted $\hat x_0$", ORANGE, side=0.36)
    decode = sheet.funnel(5.4, y, 1.3, (0.6, 1.0), "decoder", GREY, "frozen")
    picture = sheet.feature_map(6.85, y, "picture", BLUE, side=0.45)
    reward = sheet.box(8.4, y, 1.2, 0.7, "reward R", GREEN, "a number")
    for a, b in ((xt, unet), (unet, x0), (x0, decode), (decode, picture), (picture, reward)):
        sheet.arrow(a.right, b.left)
    low = 0.4
    path = (reward.bottom, (reward.x, low), (xt.x, low), (xt.x, y - 0.62))
    sheet.arrow(*path, colour=RED, line="dashed")
    text = r"backwards through everything: the slope of R with respect to $x_t$"
    sheet.label((xt.x + reward.x) / 2, low - 0.17, text)
    alt = (
        "The noisy x_t enters the frozen U-Net, which predicts x0. The frozen decoder makes a "
        "picture of it, and the reward makes a number of that. A dashed arrow leads back from the "
        "number through everything to x_t: the slope of the reward."
    )
    return sheet.figure, alt
