"""What the machine should do: hardware catalogue, predictors, fit, cost, advice. Pure: data in, data out."""
