"""generations: a module that is imported again and again, and is kept by a lost reference each time."""

from leak_rounds import extension_again, growth

growth(lambda: extension_again("generations"))
