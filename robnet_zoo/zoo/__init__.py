"""What timm loads: the bundled specs and weights, the comparison networks, and what can be trained and measured."""
