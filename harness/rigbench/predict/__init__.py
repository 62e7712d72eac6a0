"""What a machine should do: hardware catalogue, predictors and their fitting, memory fit, cost, advice. Pure: data in, data out."""
