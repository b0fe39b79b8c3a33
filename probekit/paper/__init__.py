"""What Mehra, Alonso Garcia and Mauch (2025) report, and how they score.

means     means over positions with 95 % intervals
numbers   the numbers that the paper reports, from paper.toml
samples   samples in the paper's template, and open-ended texts
protocol  top-5 accuracy on a sample's last target tokens, and the lens' divergence by layer
"""
