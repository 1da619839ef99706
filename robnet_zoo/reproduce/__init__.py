"""The paper's tables and figures, from data to trained weights to measured table, at any scale.

plan, scale = load_plan("table1"), load_scale("small")
work = Reproduction(plan, [Source("cifar10-train:data", "cifar10-test:data")], "runs/table1", scale=scale)
result = work.run()
"""
