"""error_path: input that ends in an error."""

from leak_rounds import extension, growth

module = extension("error_path")


def fail():
    for number in range(100):
        try:
            module.parse("1 2 x")
        except ValueError:
            pass


growth(fail)
