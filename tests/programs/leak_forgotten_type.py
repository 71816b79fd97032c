"""forgotten_type: modules that keep an instance of a type which the instance does not visit."""

from leak_rounds import extension_again, growth


def import_again():
    module = extension_again("forgotten_type")
    module.pair = module.Pair()


growth(import_again)
